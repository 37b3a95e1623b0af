"""Reading and writing images and masks; what cannot be meant is refused with a sentence."""

import io
import os
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageFile

from openseg_jax.errors import InputError
from openseg_jax.files import read_bytes, replacing

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
# What Pillow raises on files that are not images.
UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError)


def list_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """Returns the images of a folder by name, and its other files, without hidden ones.

    What has the suffix of an image is one, also a link that leads nowhere, a pipe or a folder: whoever reads it says
    so. Raises InputError if the folder cannot be read.
    """
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}") from error
    images = [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES]
    return images, [path for path in found if path.suffix.lower() not in IMAGE_SUFFIXES and not path.is_dir()]


def image_files(folder: Path) -> list[Path]:
    """Returns the images of a folder like `list_images`; raises InputError if there are none."""
    files = list_images(folder)[0] if folder.is_dir() else []
    if not files:
        raise InputError(f"{folder} contains no {', '.join(IMAGE_SUFFIXES)} files")
    return files


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads an image as uint8 (H, W, 3) RGB, upright according to its EXIF orientation."""
    return decode_image(read_bytes(path), str(path))


def decode_image(encoded: bytes, where: str) -> np.ndarray:
    """Decodes the contents of an image file like `read_image`; `where` names it in errors."""
    try:
        if not encoded.startswith(b"\xff\xd8"):  # a JPEG is one image, even if it carries a preview
            with Image.open(io.BytesIO(encoded)) as image:
                _check_single(image, where)
                if (image.format, image.mode) == ("TIFF", "RGBA"):  # OpenCV would multiply the colours by alpha
                    return np.asarray(image.convert("RGB"))
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    except InputError:
        raise
    except (*UNREADABLE, cv2.error):
        pixels = None
    if pixels is None:
        raise InputError(f"{where} is not a readable image: it is damaged or far too large ({len(encoded)} bytes)")
    return pixels


def read_mask(path: str | os.PathLike, colors: bool = False) -> np.ndarray:
    """Reads a mask as uint8 (H, W) of class ids; with `colors`, one in the colours of classes as uint8 (H, W, 3) RGB.

    Palette images are read as their indices, whatever colours they show. Raises InputError on what cannot be a mask.
    """
    return decode_mask(read_bytes(path), str(path), colors)


def decode_mask(encoded: bytes, where: str, colors: bool = False) -> np.ndarray:
    """Decodes the contents of a mask file like `read_mask`; `where` names it in errors."""
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
            f"{where} is not a readable mask: it is damaged or far too large ({len(encoded)} bytes)"
        ) from error
    if colors:
        raise InputError(
            f"{where} is an image of mode {mode}, but the class table says that masks are RGB images of colours"
        )
    hint = '; if its colours stand for classes, put "masks": "colors" and the colours into the class table'
    raise InputError(
        f"{where} is an image of mode {mode}, not a mask of class ids: masks have one channel of 8 bits whose values "
        f"are ids{hint if mode in ('RGB', 'RGBA') else ''}"
    )


def _check_single(image: Image.Image, where: str) -> None:
    """Refuses TIFFs of several pages and animated PNGs, of which readers silently take the first."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise InputError(f"{where} holds {frames} images: save the one that is meant as a separate file")


def read_size(file: str | os.PathLike | BinaryIO, where: str | None = None) -> tuple[int, int]:
    """Reads the (height, width) that `read_image` would return from the header of a file, which errors call `where`."""
    try:
        with Image.open(file) as image:
            width, height = image.size
            turned = image.format != "TIFF" and is_turned(image)  # Pillow has turned the size of a TIFF already
    except UNREADABLE as error:
        raise InputError(f"{where or file} is not a readable image: it is damaged or far too large") from error
    return (width, height) if turned else (height, width)


def is_turned(image: ImageFile.ImageFile) -> bool:
    """Returns whether the EXIF orientation of an opened image exchanges its sides, as the values 5 to 8 do."""
    exif = _png_exif(image.fp) if image.format == "PNG" else image.getexif()
    return exif.get(0x0112, 1) >= 5


def _png_exif(file: BinaryIO) -> Image.Exif:
    """Finds the EXIF data of a PNG wherever they stand; Pillow would decode the whole image to look for them."""
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
    """Writes uint8 (H, W, 3) RGB as a JPEG if the suffix says so, and as a PNG otherwise."""
    _write(Path(path), Image.fromarray(image))


def write_mask(path: str | os.PathLike, mask: np.ndarray, colors) -> None:
    """Writes ids, uint8 (H, W), as a palette PNG, which image viewers show in the colour (R, G, B) of each id."""
    image = Image.fromarray(mask)
    image.putpalette(np.asarray(colors, np.uint8).tobytes())
    _write(Path(path), image)


def _write(path: Path, image: Image.Image) -> None:
    with replacing(path) as temporary:
        image.save(temporary, format="JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG")
