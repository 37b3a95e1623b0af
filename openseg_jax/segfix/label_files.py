"""Label maps in picture files of any encoding, whose encoding and palette refined maps keep."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
from PIL import Image

from openseg_jax.data.images import UNREADABLE
from openseg_jax.data.pictures import PictureSource
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import COLOR_PLACES, IGNORE, ClassTable, bit_color

MODES = ("1", "L", "P", "I;16", "I", "RGB")  # of Pillow: 1 bit, 8 bits, palette, 16 bits, 32 bits, colours


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """ids (H, W): bool, uint8, uint16 or int32, as in the file; of colours uint32, red * 65536 + green * 256 + blue.

    mode, format: Pillow's names of what the file is. palette: its colours, one number after the other. transparency,
    compression: as Pillow has them.
    """

    ids: np.ndarray
    mode: str
    format: str
    palette: list[int] | None = None
    transparency: object = None
    compression: str | None = None

    def of_classes(self, classes: ClassTable, where: str) -> LabelMap:
        """The same with `void_of(classes)` wherever an id is that of no class; `where` names the map in errors."""
        if (self.mode == "RGB") != (classes.masks == "colors"):
            raise InputError(f"{where} is a {self.mode} picture, but masks of {classes.title} are {classes.masks}")
        void, known = void_of(classes), _known(classes)
        check_id(void, self, where)
        return dataclasses.replace(self, ids=np.where(np.isin(self.ids, known), self.ids, self.ids.dtype.type(void)))

    def colors(self, ids: np.ndarray, classes: ClassTable | None = None) -> np.ndarray:
        """uint8 (N, 3) RGB for ids (N,): of the classes, else of the file, else fixed ones."""
        if self.mode == "RGB":
            return _unpacked(ids)
        if classes is not None:
            known = dict(zip(classes.ids, classes.colors, strict=True))
            known |= {i: color for row, color in zip(classes.aliases, classes.colors, strict=False) for i in row}
            return np.array([known.get(int(i), (0, 0, 0)) for i in ids], np.uint8)
        if self.palette is not None:
            palette = np.zeros((256, 3), np.uint8)
            palette[: len(self.palette) // 3] = np.reshape(self.palette, (-1, 3))
            return palette[ids]
        return np.array([bit_color(int(i) & 0xFFFFFF) for i in ids], np.uint8)


def read_header(path: str | os.PathLike) -> tuple[tuple[int, int], str]:
    """((height, width), mode) without decoding. Raises InputError on what holds no ids, as `read_labels` does."""
    with _opened(path) as picture:
        return picture.size[::-1], picture.mode


def read_labels(path: str | os.PathLike) -> LabelMap:
    """Raises InputError on JPEGs, on pictures with alpha or of other modes, and on damaged files."""
    with _opened(path) as picture:
        try:
            ids = np.asarray(picture)
        except UNREADABLE as error:
            raise InputError(f"{path} is a damaged picture: {error}") from error
        if picture.mode == "RGB":
            red, green, blue = np.moveaxis(ids, -1, 0)
            places = COLOR_PLACES
            ids = red * places[0] + green * places[1] + blue
        return LabelMap(
            ids,
            picture.mode,
            picture.format,
            picture.getpalette() if picture.mode == "P" else None,
            picture.info.get("transparency"),
            picture.info.get("compression") if picture.format == "TIFF" else None,
        )


def write_labels(path: str | os.PathLike, labels: LabelMap) -> None:
    """In the encoding that the map came in, to be read as the same ids."""
    path, options = Path(path), {}
    picture = Image.fromarray(_unpacked(labels.ids) if labels.mode == "RGB" else labels.ids)
    if labels.palette is not None:
        picture.putpalette(labels.palette)
        if labels.format == "PNG" and labels.ids.max() >= len(labels.palette) // 3:
            options["bits"] = 8  # else there are as many as the palette needs, and ids beyond it would be cut off
    if labels.transparency is not None:
        options["transparency"] = labels.transparency
    if labels.compression is not None:
        options["compression"] = labels.compression
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    picture.save(temporary, format=labels.format, **options)
    os.replace(temporary, path)


def find_labels(folder: str | os.PathLike) -> dict[str, Path]:
    """The label maps of a folder by their names without suffix."""
    return by_name(PictureSource.of_folder(Path(folder)).paths)


def by_name(files: list[Path]) -> dict[str, Path]:
    """Files by their names without suffix, of which each must be there once."""
    found: dict[str, Path] = {}
    for file in files:
        if file.stem in found:
            raise InputError(f"{found[file.stem]} and {file} have the same name, so their results would be one file")
        found[file.stem] = file
    return found


def default_void(mode: str) -> int | None:
    """255 in maps of 8 bits, in others none."""
    return IGNORE if mode in ("L", "P") else None


def void_of(classes: ClassTable) -> int:
    """The id, or packed colour, that stands for void: 255 if it is one of those."""
    voids = _packed(classes.void_colors) if classes.masks == "colors" else list(classes.void)
    if not voids:
        raise InputError(f"{classes.title} has no void, which pixels of no class would become: add one to its table")
    return IGNORE if IGNORE in voids else voids[0]


def check_id(void: int | None, labels: LabelMap, where: str) -> None:
    """Refuses a void that the ids of a map cannot be."""
    kind = labels.ids.dtype
    low, high = (0, 1) if kind.kind == "b" else (np.iinfo(kind).min, np.iinfo(kind).max)
    if void is not None and not low <= void <= high:
        raise InputError(f"void is {void}, but {where} is a {labels.mode} picture, with ids from {low} to {high}")


def _opened(path: str | os.PathLike) -> Image.Image:
    try:
        picture = Image.open(path)
    except FileNotFoundError as error:
        raise InputError(f"there is no {path}") from error
    except UNREADABLE as error:
        raise InputError(f"{path} is no readable picture") from error
    why = ""
    if picture.format in ("JPEG", "MPO") or "jpeg" in str(picture.info.get("compression")):
        why = "a JPEG, whose compression invents ids"
    elif picture.format not in ("PNG", "BMP", "TIFF"):
        why = f"a {picture.format} file"
    elif getattr(picture, "n_frames", 1) > 1:
        why = f"{picture.n_frames} pictures"
    elif picture.mode not in MODES:
        why = f"a {picture.mode} picture"
    if why:
        picture.close()
        raise InputError(
            f"{path} is {why}: label maps are PNG, BMP or TIFF with one channel, a palette, or RGB colours"
        )
    return picture


def _known(classes: ClassTable) -> list[int]:
    if classes.masks == "colors":
        return _packed(classes.colors)
    return [i for i in (*classes.ids, *sum(classes.aliases, ())) if i is not None]


def _packed(colors) -> list[int]:
    return [int(np.array(color, np.uint32) @ COLOR_PLACES) for color in colors]


def _unpacked(ids: np.ndarray) -> np.ndarray:
    return np.stack([ids >> 16, ids >> 8, ids], axis=-1).astype(np.uint8)
