"""Label maps in image files of any encoding; refined maps keep encoding and palette."""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from openseg_jax.data.images import Stored, image_files, mapped, read_size
from openseg_jax.errors import InputError
from openseg_jax.files import read_bytes, replacing
from openseg_jax.labels.classes import COLOR_PLACES, IGNORE, ClassTable, bit_color
from openseg_jax.visualize import colorize

MODES = ("1", "L", "P", "I;16", "I", "RGB")  # 1 bit, 8 bits, palette, 16 bits, 32 bits, colours


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """A label map and how its file encodes it.

    Attributes:
        ids: (H, W), bool, uint8, uint16 or int32, as in the file; colours are red * 65536 + green * 256 + blue.
        mode: Pillow's name of the encoding, one of `MODES`.
        format: Pillow's name of the file format.
        palette: Its colours, one number after the other.
        options: What else Pillow needs to know to write it: "transparency", and "compression" of TIFFs.
    """

    ids: np.ndarray
    mode: str
    format: str
    palette: list[int] | None = None
    options: dict = dataclasses.field(default_factory=dict)

    def colors(self, ids: np.ndarray, classes: ClassTable | None = None) -> np.ndarray:
        """Returns the colours of ids (N,), uint8 (N, 3) RGB: the classes', else the file's, else fixed ones."""
        if self.mode == "RGB":
            return _unpacked(ids)
        if classes is not None:
            return colorize(classes.lookup[ids.astype(int)], classes)
        if self.palette is not None:
            palette = np.zeros((256, 3), np.uint8)
            palette[: len(self.palette) // 3] = np.reshape(self.palette, (-1, 3))
            return palette[ids]
        return np.array([bit_color(int(i) & 0xFFFFFF) for i in ids], np.uint8)


def read_header(path: str | os.PathLike) -> tuple[tuple[int, int], str]:
    """Returns ((height, width), mode) without decoding, and refuses what `read_labels` refuses."""
    file = _accepted(path, whole=False)
    return file.size, file.mode


def read_labels(path: str | os.PathLike, classes: ClassTable | None = None) -> LabelMap:
    """Reads a label map. With classes, `void_of(classes)` takes the place of every id that is that of none of them.

    Raises:
        InputError: On JPEGs, images with alpha or of other modes, damaged files, and masks that are none of `classes`.
    """
    file = _accepted(path)
    ids = file.pixels()
    if file.mode == "RGB":
        red, green, blue = np.moveaxis(ids, -1, 0)
        ids = (red * COLOR_PLACES[0] + green * COLOR_PLACES[1] + blue).view(np.int32)
    options = {name: file.info[name] for name in ("transparency", "compression") if name in file.info}
    labels = LabelMap(ids, file.mode, file.header.format, file.palette, options)
    return labels if classes is None else only_classes(labels, classes, str(path))


def only_classes(labels: LabelMap, classes: ClassTable, where: str) -> LabelMap:
    """Returns the map with `void_of(classes)` in place of every id that is no class. Errors call the map `where`."""
    if (labels.mode == "RGB") != (classes.masks == "colors"):
        raise InputError(f"{where} is an image of mode {labels.mode}, but masks of {classes.title} are {classes.masks}")
    void, known = void_of(classes), _packed(classes.colors) if classes.masks == "colors" else classes.all_ids
    check_id(void, labels, where)
    ids = np.where(np.isin(labels.ids, known), labels.ids, labels.ids.dtype.type(void))
    return dataclasses.replace(labels, ids=ids)


def write_labels(path: str | os.PathLike, labels: LabelMap) -> None:
    """Writes a map in the encoding of the file that it came from, so that the same ids are read again."""
    options = dict(labels.options)
    image = Image.fromarray(_unpacked(labels.ids) if labels.mode == "RGB" else labels.ids)
    if labels.palette is not None:
        image.putpalette(labels.palette)
        if labels.format == "PNG" and labels.ids.max() >= len(labels.palette) // 3:
            options["bits"] = 8  # by default Pillow writes as many as the palette needs, and cuts off larger ids
    with replacing(path) as temporary:
        image.save(temporary, format=labels.format, **options)


def find_images(folder: str | os.PathLike) -> dict[str, Path]:
    """Returns the images, or label maps, of a folder by their names without suffix."""
    return by_name(image_files(Path(folder)))


def by_name(files: Iterable[Path]) -> dict[str, Path]:
    """Returns files by their names without suffix, and raises InputError if two have the same one."""
    found: dict[str, Path] = {}
    for file in files:
        if file.stem in found:
            raise InputError(f"{found[file.stem]} and {file} have the same name, so their results would be one file")
        found[file.stem] = file
    return found


def check_sizes(labels: Mapping[str, Path], images: Mapping[str, Path]) -> dict[str, tuple[int, int]]:
    """Returns (height, width) of each label map, and raises InputError if the image of its name has another size."""
    sizes = {name: read_header(file)[0] for name, file in labels.items()}
    for name in labels.keys() & images.keys():
        if (size := read_size(images[name])) != sizes[name]:
            raise InputError(f"{labels[name]} is of size {sizes[name]}, its image of {size} (height, width)")
    return sizes


def common_void(files: Iterable[Path]) -> int | None:
    """Returns the id of void where nothing says it, 255 in maps of 8 bits and None in others; refuses both together."""
    modes = {file: read_header(file)[1] for file in files}
    voids = {IGNORE if mode in ("L", "P") else None: file for file, mode in modes.items()}
    if len(voids) > 1:
        kinds = " and ".join(f"{file} ({modes[file]})" for file in voids.values())
        raise InputError(f"255 is void in maps of 8 bits only, but there are others, too, such as {kinds}: give --void")
    return next(iter(voids))


def void_of(classes: ClassTable) -> int:
    """Returns the id, or packed colour, that stands for void; 255 if that is one of several."""
    voids = _packed(classes.void_colors) if classes.masks == "colors" else list(classes.void)
    if not voids:
        raise InputError(f"{classes.title} has no void, which pixels of no class would become: add one to its table")
    return IGNORE if IGNORE in voids else voids[0]


def check_id(void: int | None, labels: LabelMap, where: str) -> None:
    """Raises InputError on a void that the encoding of a map cannot hold. Errors call the map `where`."""
    mode, kind = labels.mode, labels.ids.dtype
    low, high = {"1": (0, 1), "RGB": (0, 0xFFFFFF)}.get(mode) or (np.iinfo(kind).min, np.iinfo(kind).max)
    if void is not None and not low <= void <= high:
        raise InputError(f"void is {void}, but {where} is an image of mode {mode}, with ids from {low} to {high}")


def _accepted(path: str | os.PathLike, whole: bool = True) -> Stored:
    file = Stored(read_bytes(path) if whole else mapped(path), str(path), "", whole)
    why = ""
    if file.is_jpeg:
        why = "a JPEG, whose compression invents ids"
    elif file.header.format not in ("PNG", "BMP", "TIFF"):
        why = f"a {file.header.format} file"
    elif file.mode not in MODES:
        why = f"an image of mode {file.mode}"
    if why:
        right = "PNG, BMP or TIFF with one channel, a palette, or RGB colours"
        raise InputError(f"{path} is {why}: label maps are {right}")
    return file


def _packed(colors) -> list[int]:
    return [int(np.array(color, np.uint32) @ COLOR_PLACES) for color in colors]


def _unpacked(ids: np.ndarray) -> np.ndarray:
    return np.stack([ids >> 16, ids >> 8, ids], axis=-1).astype(np.uint8)
