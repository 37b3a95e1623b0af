"""Reading and writing pictures and masks. What cannot be meant is refused with a sentence."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from openseg_jax.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
# What Pillow raises on files that are no pictures.
UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError)


def read_image(path: str | os.PathLike) -> np.ndarray:
    """uint8 (H, W, 3), red green blue, upright (EXIF orientation applied)."""
    return decode_image(_bytes(path), str(path))


def decode_image(encoded: bytes, where: str) -> np.ndarray:
    """The same from the contents of a file; `where` names it in errors."""
    try:
        if not encoded.startswith(b"\xff\xd8"):  # a JPEG, which may carry a preview but is one picture
            with Image.open(io.BytesIO(encoded)) as picture:
                _check_single(picture, where)
                if (picture.format, picture.mode) == ("TIFF", "RGBA"):  # OpenCV multiplies its colours by alpha
                    return np.asarray(picture.convert("RGB"))
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    except InputError:
        raise
    except (*UNREADABLE, cv2.error):
        image = None
    if image is None:
        raise InputError(f"{where} is no readable image, or a damaged or far too large one ({len(encoded)} bytes)")
    return image


def read_mask(path: str | os.PathLike, colors: bool = False) -> np.ndarray:
    """uint8 (H, W) of class ids. Palette PNGs are read as their indices, whatever colours they show.

    colors: the mask is a picture in the colours of the classes instead; then uint8 (H, W, 3), red green blue.
    """
    return decode_mask(_bytes(path), str(path), colors)


def decode_mask(encoded: bytes, where: str, colors: bool = False) -> np.ndarray:
    """The same from the contents of a file; `where` names it in errors."""
    try:
        with Image.open(io.BytesIO(encoded)) as mask:
            _check_single(mask, where)
            if mask.format in ("JPEG", "MPO"):
                raise InputError(
                    f"{where} is a JPEG, whose compression invents class ids: masks must be PNG, BMP or TIFF"
                )
            if colors and mask.mode in ("RGB", "RGBA", "P"):
                return np.asarray(mask.convert("RGB"))
            if not colors and mask.mode in ("L", "P", "1"):
                return np.asarray(mask).astype(np.uint8)
            mode = mask.mode
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(
            f"{where} is no readable mask, or a damaged or far too large one ({len(encoded)} bytes)"
        ) from error
    if colors:
        raise InputError(f"{where} is a {mode} picture, but the class table says that masks are pictures of colours")
    raise InputError(
        f"{where} is a {mode} picture, not a mask of class ids: masks have one channel of 8 bits whose values are ids"
        + (
            '; if its colours stand for classes, put "masks": "colors" and the colours into the class table'
            if mode in ("RGB", "RGBA")
            else ""
        )
    )


def _check_single(picture: Image.Image, where: str) -> None:
    """Refuses TIFFs of several pages and animated PNGs, of which readers take the first without a word."""
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        raise InputError(f"{where} holds {frames} pictures: save the one that is meant in a file of its own")


def _bytes(path: str | os.PathLike) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def read_size(file: str | os.PathLike | BinaryIO, where: str | None = None) -> tuple[int, int]:
    """(height, width) of an image as `read_image` returns it, from its header. `where` names it in errors."""
    try:
        with Image.open(file) as image:
            width, height = image.size
            turned = image.format != "TIFF" and is_turned(image)  # in TIFFs, Pillow has turned the size already
    except UNREADABLE as error:
        raise InputError(f"{where or file} is no readable image, or a damaged or far too large one") from error
    return (width, height) if turned else (height, width)


def is_turned(image: Image.Image) -> bool:
    """Whether the EXIF orientation of an opened image exchanges its sides: 5 to 8 do."""
    exif = _png_exif(image.fp) if image.format == "PNG" else image.getexif()
    return exif.get(0x0112, 1) >= 5


def _png_exif(file: BinaryIO) -> Image.Exif:
    """The EXIF data of a PNG, wherever they stand in it. Pillow decodes the whole picture to look for them."""
    exif = Image.Exif()
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        length = int.from_bytes(head[:4])
        if head[4:] == b"eXIf":
            exif.load(file.read(length))
            break
        file.seek(length + 4, os.SEEK_CUR)
    return exif


def write_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """uint8 (H, W, 3) RGB."""
    _write(Path(path), Image.fromarray(image))


def write_mask(path: str | os.PathLike, mask: np.ndarray, colors) -> None:
    """uint8 (H, W) of ids as a palette PNG: the values are ids, and viewers show them in the class colours."""
    picture = Image.fromarray(mask)
    picture.putpalette(np.asarray(colors, np.uint8).tobytes())
    _write(Path(path), picture)


def _write(path: Path, picture: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    picture.save(temporary, format="JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG")
    os.replace(temporary, path)
