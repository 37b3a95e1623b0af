"""Reading and writing pictures and masks. What cannot be meant is refused with a sentence."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from openseg_jax.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def read_image(path: str | os.PathLike) -> np.ndarray:
    """uint8 (H, W, 3), red green blue, upright (EXIF orientation applied)."""
    try:
        encoded = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB) if encoded.size else None
    if image is None:
        raise InputError(f"{path} is no readable image, or a damaged one ({encoded.size} bytes)")
    return image


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """uint8 (H, W) of class ids. Palette PNGs are read as their indices, whatever colours they show."""
    if Path(path).suffix.lower() in (".jpg", ".jpeg"):
        raise InputError(f"{path} is a JPEG, whose compression invents class ids: masks must be PNG, BMP or TIFF")
    try:
        with Image.open(path) as mask:
            if mask.mode in ("L", "P", "1"):
                return np.asarray(mask).astype(np.uint8)
            mode = mask.mode
    except (OSError, SyntaxError) as error:
        raise InputError(f"{path} is no readable mask, or a damaged one") from error
    raise InputError(
        f"{path} is a {mode} picture, not a mask of class ids: masks have one channel of 8 bits whose values are ids"
    )


def read_size(path: str | os.PathLike) -> tuple[int, int]:
    """(height, width) of an image as `read_image` returns it, from its header."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5 to 8 exchange the sides
    except (OSError, SyntaxError) as error:
        raise InputError(f"{path} is no readable image, or a damaged one") from error
    return (width, height) if turned else (height, width)


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
