"""Reading and writing images and masks: every file is whole and means what it is taken for, or is refused."""

import functools
import io
import mmap
import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image

from openseg_jax.data.containers import Header, ImageError, bare, max_pixels, read_header
from openseg_jax.errors import InputError
from openseg_jax.files import read_bytes, replacing

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
# What decoders raise on pixels that they cannot read.
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, OverflowError, Image.DecompressionBombError, cv2.error)
_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
# How to turn pixels upright by their EXIF orientation: whether to transpose them, and then how to flip them.
_TURNS = {2: (False, 1), 3: (False, -1), 4: (False, 0), 5: (True, None), 6: (True, 1), 7: (True, -1), 8: (True, 0)}
_warned: set[str] = set()


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


# ---------------------------------------------------------------------------------------------------------------------
# Images


class Picture(NamedTuple):
    """An image as nets see it, and what was lost.

    Attributes:
        pixels: uint8 (H, W, 3) RGB, upright.
        header: What the file says about itself.
        deep: The lowest and the highest value if channels have 16 bits, of which the upper 8 are kept.
        dropped: The lowest and the highest value of a fourth band or alpha channel, unless it is opaque everywhere.
    """

    pixels: np.ndarray
    header: Header
    deep: tuple[int, int] | None = None
    dropped: tuple[int, int] | None = None


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads an image as uint8 (H, W, 3) RGB, upright according to its EXIF orientation.

    Raises:
        InputError: The file is missing, cut off, damaged, too large, or holds no image or several.
    """
    return decode_image(read_bytes(path), str(path))


def decode_image(encoded: bytes, where: str) -> np.ndarray:
    """Decodes the contents of an image file like `read_image`; `where` names it in errors."""
    picture = decode_picture(encoded, where)
    if picture.deep:
        low, high = picture.deep
        warn_once(
            "deep_image",
            f"{where} has 16 bits per band, of which the upper 8 are used: its values, {low} to {high}, become "
            f"{low >> 8} to {high >> 8}; if these are too few, scale all images to 8 bits by one factor",
        )
    if picture.dropped:
        low, high = picture.dropped
        warn_once(
            "dropped_band",
            f"{where} has {picture.header.bands} bands, of which the last, with values from {low} to {high}, is not "
            "used",
        )
    return picture.pixels


def decode_picture(encoded: bytes, where: str) -> Picture:
    """Decodes the contents of an image file, and says what was lost. Errors are those of `read_image`."""
    header = _checked(encoded, where, "image")
    try:
        pixels = _decoded(encoded, header)
    except ImageError as error:
        raise _unreadable(where, "image", error) from error
    except _UNREADABLE as error:
        raise _unreadable(where, "image", "has pixels that are damaged, or of a kind that is not read") from error
    deep = dropped = None
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        alpha, pixels = pixels[..., -1], pixels[..., :-1]
        if (alpha != np.iinfo(alpha.dtype).max).any():
            dropped = int(alpha.min()), int(alpha.max())
    if pixels.dtype == np.uint16:
        deep = int(pixels.min()), int(pixels.max())
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        pixels = np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=-1)
    return Picture(np.ascontiguousarray(_upright(pixels, header.orientation)), header, deep, dropped)


def _decoded(encoded: bytes, header: Header) -> np.ndarray:
    """Returns the pixels as they are stored, with alpha if there is any, uint8 or uint16, (H, W) or (H, W, bands)."""
    if not header.unsigned or header.bits > 16:
        raise ImageError("has values that are negative, have fractions or more than 16 bits: save it with 8 or 16 bits")
    pixels, alpha = bare(encoded, header), header.bands in (2, 4) and header.format in ("PNG", "TIFF") and header.colors
    if alpha and header.format == "TIFF" and header.bits == 8:  # OpenCV would multiply the colours by alpha
        with _opened(io.BytesIO(pixels)) as image:
            found = np.asarray(image)
    elif alpha or header.bits == 16:
        found = cv2.imdecode(np.frombuffer(pixels, np.uint8), cv2.IMREAD_UNCHANGED)
        if found is not None and found.ndim == 3:
            found = cv2.cvtColor(found, cv2.COLOR_BGRA2RGBA if found.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    else:
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        found = cv2.imdecode(np.frombuffer(pixels, np.uint8), flags)
    if found is None or found.shape[:2] != (header.height, header.width) or found.dtype not in (np.uint8, np.uint16):
        raise ImageError("has pixels that are damaged, or of a kind that is not read")
    return found


def _opened(file: BinaryIO) -> Image.Image:
    """Opens a file whose size was checked. Pillow's own limit is raised if the user has raised ours above it."""
    if Image.MAX_IMAGE_PIXELS and max_pixels() > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels()
    return Image.open(file)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    transpose, flip = _TURNS.get(orientation, (False, None))
    pixels = cv2.transpose(pixels) if transpose else pixels
    return pixels if flip is None else cv2.flip(pixels, flip)


def read_size(file: str | os.PathLike | BinaryIO, where: str | None = None) -> tuple[int, int]:
    """Reads the (height, width) that `read_image` would return from the header of a file, which errors call `where`."""
    return read_facts(file, where).size


def read_facts(file: str | os.PathLike | BinaryIO, where: str | None = None) -> Header:
    """Reads the header of an image, without its pixels; raises InputError if that is impossible."""
    data = mapped(file) if isinstance(file, (str, os.PathLike)) else file.read()
    return _checked(data, where or str(file), "image", whole=False)


def mapped(path: str | os.PathLike) -> mmap.mmap | bytes:
    """Returns the bytes of a file, of which only those that are looked at will be read; InputError as `read_bytes`."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # an empty file, a pipe, or one that cannot be read, for which that has the words
        return read_bytes(path)


def _checked(data, where: str, what: str, whole: bool = True) -> Header:
    """Returns the header of a file with one image; raises InputError if it is damaged."""
    try:
        header = read_header(data, whole)
    except ImageError as error:
        raise _unreadable(where, what, error) from error
    if header.frames > 1:
        raise InputError(f"{where} holds {header.frames} images: save the one that is meant as a separate file")
    return header


def _unreadable(where: str, what: str, why) -> InputError:
    return InputError(f"{where} is not a readable {what}: it {why}" if what else f"{where} {why}")


def warn_once(kind: str, sentence: str) -> None:
    """Writes a warning to stderr, the first time for each kind, and not in workers, who would all do so."""
    if kind not in _warned and multiprocessing.parent_process() is None:
        _warned.add(kind)
        print(f"warning: {sentence}", file=sys.stderr)


# ---------------------------------------------------------------------------------------------------------------------
# Masks


class Stored:
    """An image whose values are numbers, not brightness: they are read exactly as they are stored.

    Attributes:
        header: What the file says about itself.
        mode: Pillow's name of the kind of pixels; "RGB;16" and the like for PNGs that Pillow would reduce.
        info: What else Pillow needs to write it again, and more: transparency, and the compression of a TIFF.
        size: The (height, width) of the pixels, turned only if they are a TIFF's.

    Args:
        encoded: The contents of the file; without `whole`, they may be mapped, and have no `pixels`.
        where: What errors call the file.
        what: What errors say that it is not; nothing if it is empty.
        whole: Whether everything is checked, or only what leads to the attributes.

    Raises:
        InputError: The file is missing, cut off, damaged, too large, or holds no image or several.
    """

    def __init__(self, encoded, where: str, what: str = "mask", whole: bool = True):
        self.header, self._encoded, self._where, self._what = (
            _checked(encoded, where, what, whole),
            encoded,
            where,
            what,
        )
        self.mode, self.info, self._image = self.header.mode, {}, None
        if self.header.format == "PNG":
            self.info = _transparency(self.header)
        elif self.header.format in ("TIFF", "BMP"):
            try:
                self._image = _opened(io.BytesIO(bare(encoded, self.header)) if whole else encoded)
            except _UNREADABLE as error:
                raise _unreadable(where, what, "has a kind of pixels that is not read") from error
            self.mode, self.info = self._image.mode, self._image.info
        else:
            self.mode = _JPEG_MODES.get(self.header.bands, "") if self.is_jpeg else "P"

    @property
    def size(self) -> tuple[int, int]:
        """The (height, width)."""
        return self.header.size if self.header.format == "TIFF" else (self.header.height, self.header.width)

    @property
    def is_jpeg(self) -> bool:
        """Whether it is a JPEG, or a TIFF that holds one."""
        return self.header.format == "JPEG" or "jpeg" in str(self.info.get("compression"))

    @functools.cached_property
    def palette(self) -> list[int] | None:
        """The colours of a palette, one number after the other, or None."""
        if self.mode != "P":
            return None
        return list(self.header.palette) if self._image is None else self._read(self._image.getpalette)

    def pixels(self) -> np.ndarray:
        """Returns the values, (H, W) or (H, W, bands), bool for one bit; the alpha of an RGBA is left out."""
        found = self._read(self._png if self._image is None else lambda: np.asarray(self._image))
        if found is None or found.shape[:2] != (self.header.height, self.header.width):
            raise _unreadable(self._where, self._what, "has pixels that are damaged, or fewer than its header says")
        found = np.ascontiguousarray(found[..., :3]) if self.mode == "RGBA" else found
        return _upright(found, self.header.orientation) if self.header.format == "TIFF" else found

    def _read(self, read: Callable):
        try:
            return read()
        except _UNREADABLE as error:
            why = "has pixels that are damaged, or of a kind that is not read"
            raise _unreadable(self._where, self._what, why) from error

    def _png(self) -> np.ndarray | None:
        flag = cv2.IMREAD_GRAYSCALE if self.mode in ("1", "L", "P") else cv2.IMREAD_UNCHANGED
        if self.mode in ("RGB", "RGBA"):
            flag = cv2.IMREAD_COLOR_RGB
        found = cv2.imdecode(np.frombuffer(bare(self._encoded, self.header, self.mode == "P"), np.uint8), flag)
        if found is None or self.mode not in ("1", "P"):
            return found
        if self.header.bits < 8:
            found = np.right_shift(found, 8 - self.header.bits)
        return found.astype(bool) if self.mode == "1" else found


def _transparency(header: Header) -> dict:
    """Returns Pillow's form of what is transparent in a PNG: an alpha for each index, a grey value, or a colour."""
    content = header.transparency
    if not content or header.mode == "P":
        return {"transparency": content} if content else {}
    values = tuple(int.from_bytes(content[i : i + 2]) for i in range(0, len(content), 2))
    return {"transparency": values if len(values) > 1 else values[0]}


def read_mask(path: str | os.PathLike, colors: bool = False) -> np.ndarray:
    """Reads a mask as uint8 (H, W) of class ids; with `colors`, one in the colours of classes as uint8 (H, W, 3) RGB.

    Palette images are read as their indices, whatever colours they show. Raises InputError on what cannot be a mask.
    """
    return decode_mask(read_bytes(path), str(path), colors)


def decode_mask(encoded: bytes, where: str, colors: bool = False) -> np.ndarray:
    """Decodes the contents of a mask file like `read_mask`; `where` names it in errors."""
    mask = Stored(encoded, where)
    if mask.is_jpeg:
        raise InputError(f"{where} is a JPEG, whose compression invents class ids: masks must be PNG, BMP or TIFF")
    if mask.header.format not in ("PNG", "TIFF", "BMP"):
        raise InputError(f"{where} is a {mask.header.format}: masks must be PNG, BMP or TIFF")
    if colors and mask.mode in ("RGB", "RGBA"):
        return mask.pixels()
    if colors and mask.mode == "P":
        return _colored(mask.pixels(), mask.palette, where)
    if not colors and mask.mode in ("L", "P", "1"):
        return mask.pixels().astype(np.uint8, copy=False)
    if colors:
        raise InputError(
            f"{where} is an image of mode {mask.mode}, but the class table says that masks are RGB images of colours"
        )
    hint = '; if its colours stand for classes, put "masks": "colors" and the colours into the class table'
    raise InputError(
        f"{where} is an image of mode {mask.mode}, not a mask of class ids: masks have one channel of 8 bits whose "
        f"values are ids{hint if mask.mode in ('RGB', 'RGBA') else ''}"
    )


def _colored(indices: np.ndarray, palette: list[int], where: str) -> np.ndarray:
    colors = np.array(palette, np.uint8).reshape(-1, 3)
    if indices.max() >= len(colors):
        raise InputError(f"{where} has the index {indices.max()}, but its palette has {len(colors)} colours only")
    return colors[indices]


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
