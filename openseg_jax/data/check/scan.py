"""One pass over the files of a data set, which finds out what each image and mask is and what its pixels say."""

import dataclasses
import hashlib
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from rich.markup import escape
from rich.progress import Progress
from scipy import ndimage

from openseg_jax.console import Console
from openseg_jax.data.images import Stored, decode_mask, decode_picture, list_images, mapped, read_facts
from openseg_jax.data.workers import in_threads
from openseg_jax.errors import InputError
from openseg_jax.files import read_bytes
from openseg_jax.labels.classes import COLOR_PLACES, IGNORE, ClassTable
from openseg_jax.text import one_line

FOLDERS = "image", "label"  # of each split, unless a config names others
QUICK_SAMPLES = 32  # how many samples of a split a quick scan reads
_ID_MODES = ("L", "P", "1")
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "F")  # Pillow's modes of more than 8 bits
_FEW = 32  # how many distinct colours of a mask are remembered
_GRID = 128  # the longest side of the maps from which the statistics of the classes are taken


@dataclasses.dataclass
class ImageFacts:
    """What is known about an image; of one that is missing or unreadable, nothing."""

    size: tuple[int, int] | None = None  # (height, width) upright
    error: str = ""  # why it is unreadable, as a sentence
    turned: bool = False  # whether its EXIF orientation exchanges its sides
    deep: tuple[int, int] | None = None  # the lowest and the highest value if channels have 16 bits
    dropped: tuple[int, int] | None = None  # those of a fourth band, unless it is opaque everywhere
    digest: bytes | None = None  # of its pixels, if they were read
    thumbnail: np.ndarray | None = None  # grey uint8 (32, 32), if the pixels were read


@dataclasses.dataclass
class MaskFacts:
    """What is known about a mask; of one that is missing or unreadable, nothing."""

    size: tuple[int, int] | None = None  # (height, width)
    error: str = ""  # why it is unreadable, as a sentence
    format: str = ""  # Pillow's name of the file format
    mode: str = ""  # Pillow's name of the kind of pixels
    # Of a mask of more than 8 bits: its lowest and highest value, and whether all are whole numbers.
    lowest: float = 0
    highest: float = 0
    whole: bool = True
    ids: dict[int, int] = dataclasses.field(default_factory=dict)  # pixels per value of one channel of 8 bits
    colors: dict[tuple, int] = dataclasses.field(default_factory=dict)  # pixels per colour, of the most frequent ones
    unknown_colors: dict[tuple, int] = dataclasses.field(default_factory=dict)  # those that no class has
    labels: dict[int, int] = dataclasses.field(default_factory=dict)  # pixels per train id, if the table has them
    index_colors: dict[int, tuple] = dataclasses.field(default_factory=dict)  # the palette's colour of each id


@dataclasses.dataclass
class Sample:
    """The files of one name of a split; `features` holds float (7,) for each train id, see `_features`."""

    split: str
    images: list[Path]
    masks: list[Path]
    image: ImageFacts = dataclasses.field(default_factory=ImageFacts)
    mask: MaskFacts = dataclasses.field(default_factory=MaskFacts)
    features: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Scan:
    """What is known about all files."""

    root: Path
    classes: ClassTable | None
    quick: bool  # whether only some pixels were read
    folders: tuple[str, str] = FOLDERS  # of the images and the masks of each split
    splits: dict[str, list[Sample]] = dataclasses.field(default_factory=dict)  # training first
    ignored: dict[str, list[Path]] = dataclasses.field(default_factory=dict)  # files that are neither images nor hidden
    unlabelled: set[str] = dataclasses.field(default_factory=set)  # splits that need no masks

    def samples(self) -> Iterable[Sample]:
        """Returns the samples of all splits."""
        return (sample for samples in self.splits.values() for sample in samples)

    def short(self, path: Path) -> str:
        """Returns a path relative to the root, as text that can be shown."""
        return one_line(path.relative_to(self.root).as_posix())


def scan_folder(
    root: Path,
    classes: ClassTable | None,
    splits: Iterable[str],
    *,
    quick: bool = False,
    console: Console | None = None,
    folders: tuple[str, str] = FOLDERS,
) -> Scan:
    """Reads the headers of all files and the pixels of all or, if quick, of 32 evenly spaced samples per split.

    The arguments are those of `check_folder`; without a class table, ids and colours are read without their meaning.

    Raises:
        InputError: A split has no folder of images.
    """
    scan = Scan(root, classes, quick, folders)
    work = []
    for split in dict.fromkeys(splits):
        images, masks = (root / split / folder for folder in folders)
        if not images.is_dir():
            raise InputError(f"there is no folder {images}: a data set is ROOT/SPLIT/image and ROOT/SPLIT/label")
        (by_image, more), (by_mask, others) = _list(images), _list(masks)
        scan.ignored[split] = more + others
        samples = [Sample(split, by_image[name], by_mask[name]) for name in sorted({*by_image, *by_mask})]
        scan.splits[split] = samples
        if split == "test" and not masks.is_dir():
            scan.unlabelled.add(split)
        count = min(QUICK_SAMPLES, len(samples)) if quick else len(samples)
        read = set(np.linspace(0, len(samples) - 1, count).round().astype(int).tolist())
        work += [(sample, index in read) for index, sample in enumerate(samples)]

    progress = Progress(console=console, transient=True, disable=console is None)
    with warnings.catch_warnings(), progress:
        warnings.simplefilter("ignore")  # Pillow warns about odd metadata, which masks do not need
        done = in_threads(lambda item: _look(scan, *item), work, min(8, os.cpu_count() or 1))
        for _ in progress.track(done, len(work), description=escape(f"reading {root}")):
            pass
    return scan


def _list(folder: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """Returns the images of a folder by their name without suffix, and its other files."""
    images, others = list_images(folder) if folder.is_dir() else ([], [])
    by_stem = defaultdict(list)
    for file in images:
        by_stem[file.stem].append(file)
    return by_stem, others


def _look(scan: Scan, sample: Sample, pixels: bool) -> None:
    """Finds out everything about one sample."""
    image = label = None
    if sample.images and not (error := _no_file(sample.images[0])):
        sample.image, image = _look_at_image(sample.images[0], pixels)
    elif sample.images:
        sample.image.error = error
    if sample.masks and not (error := _no_file(sample.masks[0])):
        sample.mask, label = _look_at_mask(sample.masks[0], pixels, scan.classes)
    elif sample.masks:
        sample.mask.error = error
    if image is not None and label is not None and image.shape[:2] == label.shape and not scan.quick:
        sample.features = _features(image, label, len(scan.classes))


def _no_file(path: Path) -> str:
    """Returns why a path is no file, in the words of training, or nothing if it is one."""
    try:
        return "" if path.is_file() else str(read_bytes(path))
    except InputError as error:
        return str(error)


def _look_at_image(path: Path, pixels: bool) -> tuple[ImageFacts, np.ndarray | None]:
    facts = ImageFacts()
    try:
        header = read_facts(path)
        facts.size, facts.turned = header.size, header.orientation >= 5
        if not pixels:
            return facts, None
        image, _, facts.deep, facts.dropped = decode_picture(read_bytes(path), str(path))
    except InputError as error:
        return ImageFacts(error=str(error)), None
    facts.digest = hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).digest()
    facts.thumbnail = cv2.cvtColor(cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return facts, image


def _look_at_mask(path: Path, pixels: bool, classes: ClassTable | None) -> tuple[MaskFacts, np.ndarray | None]:
    """Also returns the mask as train ids, uint8 (H, W), 255 where it is void or means nothing, if that is possible."""
    facts = MaskFacts()
    try:
        encoded = read_bytes(path) if pixels else mapped(path)
        file, label = Stored(encoded, str(path), whole=pixels), None
        facts.format, facts.mode, facts.size = "JPEG" if file.is_jpeg else file.header.format, file.mode, file.size
        if not pixels or file.is_jpeg:
            return facts, None
        if facts.mode in DEEP_MODES:
            facts.lowest, facts.highest, facts.whole = _range(file.pixels())
        if facts.mode in _ID_MODES:
            mask = decode_mask(encoded, str(path))
            facts.ids = _histogram(mask)
            if classes and classes.masks == "ids":
                label = np.where(classes.lookup[mask] < len(classes), classes.lookup[mask], IGNORE)
        if facts.mode == "P":
            palette = np.reshape(file.palette, (-1, 3)).tolist()
            facts.index_colors = {i: tuple(palette[i]) for i in facts.ids if i < len(palette)}
        colors = classes is not None and classes.masks == "colors"
        if facts.mode in ("RGB", "RGBA") or (facts.mode == "P" and colors):
            label = _look_at_colors(facts, decode_mask(encoded, str(path), colors=True), classes if colors else None)
    except InputError as error:
        return MaskFacts(error=str(error)), None
    facts.labels = {} if label is None else _histogram(label)
    return facts, label


def _range(values: np.ndarray) -> tuple[float, float, bool]:
    finite = values[np.isfinite(values)]
    whole = finite.size == values.size and bool((finite == np.floor(finite)).all())
    return (float(finite.min()), float(finite.max()), whole) if finite.size else (0.0, 0.0, False)


def _histogram(values: np.ndarray) -> dict[int, int]:
    return {i: int(n) for i, n in enumerate(np.bincount(values.ravel())) if n}


def _look_at_colors(facts: MaskFacts, mask: np.ndarray, classes: ClassTable | None) -> np.ndarray | None:
    """Returns the train ids of uint8 (H, W, 3), if a class table of colours has all of these."""
    codes, counts = np.unique(mask.astype(np.uint32) @ COLOR_PLACES, return_counts=True)
    order = counts.argsort()[::-1][:4096]  # more than all classes have, so some of them are unknown
    colors = [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in codes[order]]
    found = dict(zip(colors, counts[order].tolist(), strict=True))
    facts.colors = dict(list(found.items())[:_FEW])
    if classes is None:
        return None
    known = {*classes.colors, *classes.void_colors}
    facts.unknown_colors = dict([item for item in found.items() if item[0] not in known][:_FEW])
    return None if facts.unknown_colors else classes.encode(mask, "")


def _features(image: np.ndarray, label: np.ndarray, num_classes: int) -> dict[int, np.ndarray]:
    """Describes each class that covers a few cells of a coarse grid.

    The features are the mean red, green, blue, row, distance from the middle column and contrast, and the logarithm of
    the share.
    """
    scale = min(1.0, _GRID / max(label.shape))
    size = [max(1, round(side * scale)) for side in label.shape[::-1]]
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
    contrast = np.abs(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F))
    rows, columns = np.mgrid[0 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j]
    count = np.bincount(label.ravel(), minlength=256)[:num_classes]
    present = np.flatnonzero(count >= 8)
    maps = *np.moveaxis(image, -1, 0), rows, np.abs(columns), contrast
    means = [ndimage.mean(values, label, present) for values in maps]
    features = np.stack([*means, np.log(count[present] / label.size)], 1)
    return dict(zip(present.tolist(), features, strict=True))


def blended(samples: Iterable[Sample]) -> bool:
    """Returns whether masks in colours have more of them than classes would."""
    found = [s.mask.colors for s in samples if s.mask.colors]
    return bool(found) and (np.median([len(colors) for colors in found]) >= _FEW or len(total(found)) > 254)


def total(counts: Iterable[dict]) -> Counter:
    """Returns the sum of histograms."""
    result: Counter = Counter()
    for each in counts:
        result.update(each)
    return result
