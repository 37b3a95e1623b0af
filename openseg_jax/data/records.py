"""A data set in ArrayRecord files, as `openseg data build` writes them."""

import functools
from pathlib import Path

from openseg_jax.data.images import decode_image, decode_mask
from openseg_jax.data.maps import Maps
from openseg_jax.errors import InputError
from openseg_jax.files import read_json
from openseg_jax.labels.classes import ClassTable


class RecordSource:
    """Random access to the samples of one split, in the order of their names.

    source[i] is {"image": uint8 (H, W, 3) RGB, "label": uint8 (H, W) train ids, "name": str, ...}, without "label" in a
    split that has no labels. Threads may read at the same time; only the path is pickled. Reading raises InputError if
    a label contains ids that the class table does not have.

    Args:
        root: OUT/NAME or OUT/NAME/1.0.0 of a build.
        split: The name of the split.
        classes: What the values of the masks mean.
        **maps: `maps` and `offset_folder` of `maps.Maps`, which adds further maps to each sample with a label.

    Raises:
        InputError: The build is not complete or has no such split.
    """

    def __init__(self, root: str, split: str, classes: ClassTable, **maps):
        import tensorflow_datasets as tfds  # half a second that other sources should not wait

        self.root, self.split, self.classes = root, split, classes
        self.further = Maps(classes, **maps)
        folder = _version_folder(root)
        if not (folder / "dataset_info.json").is_file():
            raise InputError(f"{folder} is not complete: run the build command again, which continues where it stopped")
        self._builder = tfds.builder_from_directory(folder)
        splits = self._builder.info.splits
        if split not in splits:
            raise InputError(f"{folder} has no split {split!r}: it has {', '.join(sorted(splits))}")
        lost = [path.name for path in splits[split].filepaths if not path.exists()]
        if lost:
            raise InputError(f"{folder} lacks {len(lost)} files, such as {lost[0]}: run the build command again")
        index = read_json(folder / f"index-{split}.json")
        self.names = index["names"]
        self._sizes = index["sizes"]
        self._where = f"{folder.parent.name}, {split}"
        self._records = self._builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
        _ = self._records[0]  # tfds imports modules now, which threads must not do at the same time

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict:
        record = self._records[index]
        where = f"{self._where}: {self.names[index]}"
        sample = {"image": decode_image(record["image"], where), "name": self.names[index]}
        if record["label"]:
            mask = decode_mask(record["label"], where, colors=self.classes.masks == "colors")
            sample["label"] = self.classes.encode(mask, where)
            sample |= self.further(self.names[index], sample["label"])
        return sample

    def size(self, index: int) -> tuple[int, int]:
        """Returns the (height, width) of a sample."""
        return tuple(self._sizes[index])

    def stamps(self) -> list[list[int]]:
        """Returns the size and the modification time of every file."""
        files = self._builder.info.splits[self.split].filepaths
        return [[path.stat().length, int(path.stat().mtime)] for path in files]

    def __reduce__(self):
        return functools.partial(RecordSource, maps=self.further.maps), (self.root, self.split, self.classes)


def is_record_root(path: str) -> bool:
    """Returns whether the build command has begun to write into a folder."""
    return _is_begun(_version_folder(path))


def _version_folder(root: str) -> Path:
    path = Path(root).expanduser()
    return path if _is_begun(path) else path / "1.0.0"


def _is_begun(folder: Path) -> bool:
    return any((folder / file).is_file() for file in ("dataset_info.json", "journal.jsonl"))
