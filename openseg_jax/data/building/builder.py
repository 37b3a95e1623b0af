"""The base of all builders, which say what archives they need and which of their members are images and labels."""

import dataclasses
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from openseg_jax.data.building.archives import Archive, Member
from openseg_jax.data.images import decode_image, decode_mask
from openseg_jax.data.records import check_name
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable, load_about, load_classes
from openseg_jax.text import one_line

Label = Member | Callable[[], np.ndarray]  # a mask, or a function that returns uint8 (H, W) raw ids


@dataclasses.dataclass(frozen=True)
class Part:
    """One download."""

    files: tuple[str, ...]  # the names that its file may have
    unpacked: tuple[str, ...] = ()  # the folders that it becomes when it is unpacked
    optional: bool = False


@dataclasses.dataclass(frozen=True)
class Split:
    """The images and labels of a split by name."""

    name: str
    images: Mapping[str, Member]
    labels: Mapping[str, Label] | None  # None if they are not public
    names: Iterable[str] | None = None  # the official list, if there is one


@dataclasses.dataclass(frozen=True)
class Sample:
    """An image with its label."""

    name: str
    image: Member
    label: Label | None  # None if it is not public
    classes: ClassTable
    enlarge: bool  # whether a smaller label is brought to the size of its image, by nearest neighbour

    def example(self) -> tuple[dict[str, bytes | str], tuple[int, int]]:
        """Returns what is stored, {"image", "label", "name"}, and (height, width), after decoding all of it.

        The image is the file as it is. The label is a PNG of raw ids in 8 bits, the official file itself if it is one,
        and empty if there is no label.

        Raises:
            InputError: The image or the label is damaged, or the label does not fit the image or the classes.
        """
        image = self.image.read()
        size = decode_image(image, str(self.image)).shape[:2]
        label = b"" if self.label is None else self._label(size)
        return {"image": image, "label": label, "name": self.name}, size

    def _label(self, size: tuple[int, int]) -> bytes:
        if isinstance(self.label, Member):
            where, encoded = str(self.label), self.label.read()
            mask = decode_mask(encoded, where)
        else:
            where, encoded, mask = f"the label of {self.image}", b"", self.label()
        self.classes.encode(mask, where)
        if self.enlarge and mask.shape[0] < size[0]:
            encoded, mask = b"", cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)
        if mask.shape != size:
            raise InputError(
                f"{where} is {mask.shape[0]}x{mask.shape[1]} (height x width), its image is {size[0]}x{size[1]}: "
                "labels must have the size of their image"
            )
        # Bytes 24 and 25 of a PNG are its bits per channel and its kind: 0 is grey, 3 has a palette.
        return encoded if encoded[:4] == b"\x89PNG" and encoded[24:26] in (b"\x08\x00", b"\x08\x03") else png(mask)


def png(mask: np.ndarray) -> bytes:
    """Encodes uint8 (H, W) as a grey PNG."""
    file = io.BytesIO()
    Image.fromarray(mask).save(file, format="PNG")
    return file.getvalue()


class SegmentationBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A benchmark; examples are {"image": encoded file, "label": PNG of raw ids or empty, "name": text}."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "The archives as the benchmark's home page gives them, in one folder."
    url_infos = None  # there are no checksums, because tfds downloads nothing
    table: str  # the name of the class table
    parts: Mapping[str, Part]
    find_splits: Callable[..., Iterator[Split]]  # of the archive of each part, None for an optional one that is missing
    labels_are_smaller = False  # then they are enlarged to the size of their image

    def __init_subclass__(cls, **arguments):
        # tfds has data sets of the same names.
        super().__init_subclass__(skip_registration=True, **arguments)

    @property
    def counts(self) -> Mapping[str, int]:
        """The official number of samples of each split."""
        return load_about(self.table).splits

    def locate(self, folder: Path, scratch: Path) -> dict[str, Archive | None]:
        """Opens the downloads by key; raises InputError if one is missing, unless it is optional: then it is None."""
        found: dict[str, Archive | None] = dict.fromkeys(self.parts)
        for key, part in self.parts.items():
            files = [folder / file for file in part.files if (folder / file).is_file()]
            stems = [folder / re.sub(r"\.(zip|tar|tgz|tar\.gz)$", "", file) for file in part.files]
            if files:
                found[key] = Archive(files[0], scratch)
            elif any((folder / top).exists() for top in part.unpacked):
                found[key] = Archive(folder, scratch, part.unpacked)
            elif stem := next((stem for stem in stems if stem.is_dir()), None):
                found[key] = Archive(stem, scratch)
            elif not part.optional:
                raise self.missing(folder, *part.files, *(f"{top}/" for top in part.unpacked))
        return found

    @classmethod
    def missing(cls, folder: Path, *names: str) -> InputError:
        """Returns the error about a missing download, of which any of `names` would do."""
        download = load_about(cls.table).download
        return InputError(f"{folder} does not hold {' or '.join(names)}, which {cls.name} needs: {download}")

    def find_samples(self, splits: Iterable[Split]) -> tuple[dict[str, list[Sample]], list[str]]:
        """Returns the samples of each split in the order of their names, and a phrase about each thing missing."""
        samples, missing, classes = {}, [], load_classes(self.table)
        for split in splits:
            images, official = split.images, set(split.images if split.names is None else split.names)
            labels = dict.fromkeys(official) if split.labels is None else split.labels
            lonely = {
                "labels without an image": labels.keys() - images.keys() if split.names is None else (),
                "images without a label": official - labels.keys(),
                "of the official list without an image": official - images.keys(),
            }
            for what, names in lonely.items():
                if names:
                    missing.append(one_line(f"{split.name} has {len(names)} {what}, such as {min(names)}"))
            names = sorted(official & labels.keys() & images.keys())
            for name in names:
                check_name(name, str(images[name]))
            count = self.counts.get(split.name, len(names))
            if len(names) != count:
                missing.append(f"{split.name} has {len(names)} of {count} samples")
            if names:
                found = [Sample(name, images[name], labels[name], classes, self.labels_are_smaller) for name in names]
                samples[split.name] = found
        return samples, missing

    # The rest is for tfds, which can build these data sets too, in one process and without resuming.

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.Scalar(np.object_, doc="a PNG of raw ids in 8 bits, empty if there is no label"),
            "name": tfds.features.Text(),
        }
        about = load_about(self.table)
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{load_classes(self.table).title}, images and labels as published.",
            features=tfds.features.FeaturesDict(features),
            homepage=about.home,
            license=about.licence,
            citation=about.citation,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        parts = self.locate(Path(dl_manager.manual_dir), Path(self.data_dir).parent / "unpacked")
        samples, missing = self.find_samples(self.find_splits(*parts.values()))
        if missing:
            raise InputError(f"{self.name} is not complete: {'; '.join(missing)}")
        return {split: self._generate_examples(found) for split, found in samples.items()}

    def _generate_examples(self, samples: list[Sample]):
        for sample in samples:
            yield sample.name, sample.example()[0]


def prepared_splits(archive: Archive) -> Iterator[Split]:
    """Yields the splits of a folder of SPLIT/image and SPLIT/label; the test split may lack labels."""
    for name in sorted({member.name.split("/")[0] for member in archive.members if member.name.count("/") >= 2}):
        folder = re.escape(name)
        images = archive.find(rf"{folder}/images?/([^/]+)\.(?:jpg|jpeg|png)")  # the original's COCO-Stuff has images/
        labels = archive.find(rf"{folder}/label/([^/]+)\.png")
        if (images or labels) and not re.fullmatch(r"\w[\w-]*", name):
            raise InputError(f"{archive.path} has the split {name!a:.80}: rename it with letters and digits alone")
        if images or labels:
            yield Split(name, images, None if name == "test" and not labels else labels)
