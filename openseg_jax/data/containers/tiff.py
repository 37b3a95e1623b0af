"""TIFF, and the EXIF data of other files, which have its form."""

import contextlib
import math
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from openseg_jax.data.containers.header import Header, ImageError

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _MEANING, _STRIPS, _ORIENTATION, _BANDS, _ROWS, _STRIP_BYTES, _PLANES = (
    256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284
)  # fmt: skip
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _EXTRA, _NUMBERS = 322, 323, 324, 325, 338, 339
# What makes pixels: besides those above the order of bits, options of fax, and the predictor; and, of several values,
# the palette, tables of JPEGs, and how much smaller the bands of colour are.
_SINGLE = {
    _WIDTH,
    _HEIGHT,
    _COMPRESSION,
    _MEANING,
    _BANDS,
    _ROWS,
    _PLANES,
    _TILE_WIDTH,
    _TILE_HEIGHT,
    266,
    292,
    293,
    317,
}
_KEPT = {*_SINGLE, _BITS, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES, _EXTRA, _NUMBERS, 320, 347, 530}
_READ = _KEPT | {_ORIENTATION}
_INTEGERS = {1: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}  # the kinds of whole numbers, as struct names them
_STORED, _DEFLATE, _RGB, _YCBCR = 1, (8, 32946), 2, 6
_INFLATIONS = {_STORED: 1, 5: 4096, 8: 1032, 32946: 1032, 32773: 64}  # bytes that a compression can make of one
_MOST_IMAGES, _MOST_ENTRIES = 1000, 1000
_OUTSIDE = "is damaged or cut off: it says that parts of it are behind its end"


class _Entry(NamedTuple):
    kind: int
    count: int
    start: int  # of the value, or of the place of a longer one
    raw: bytes


class _Tiff:
    """The bytes of a TIFF as directories, one for each image, of numbers by their tags."""

    def __init__(self, data):
        self.data, self.order = data, "<" if data[:2] == b"II" else ">"
        self.big = data[2:4] in (b"+\0", b"\0+")
        self.place, self.inside, self.first = ("Q", 8, 8) if self.big else ("I", 4, 4)

    def unpack(self, form: str, at: int) -> tuple:
        """Reads numbers; raises struct.error behind the end of the file."""
        return struct.unpack_from(self.order + form, self.data, at)

    def directories(self) -> list[int]:
        """Returns where the directories are."""
        (at,), found = self.unpack(self.place, self.first), []
        while at and at not in found and len(found) < _MOST_IMAGES:
            found.append(at)
            count, start = self._count(at)
            (at,) = self.unpack(self.place, start + count * (12 if not self.big else 20))
        return found

    def _count(self, at: int) -> tuple[int, int]:
        form = "Q" if self.big else "H"
        return self.unpack(form, at)[0], at + struct.calcsize(f"={form}")

    def entries(self, at: int) -> Iterator[tuple[int, _Entry]]:
        """Yields the tags of a directory with their entries."""
        count, at = self._count(at)
        form = f"HH{self.place}"
        size = struct.calcsize(f"={form}")
        for _ in range(min(count, _MOST_ENTRIES)):
            tag, kind, length = self.unpack(form, at)
            yield tag, _Entry(kind, length, at + size, bytes(self.data[at : at + size + self.inside]))
            at += size + self.inside

    def numbers(self, entry: _Entry) -> np.ndarray:
        """Returns the numbers of an entry, int64 (N,); raises ImageError if they are not in the file."""
        form = _INTEGERS.get(entry.kind)
        size = entry.count * struct.calcsize(f"={form}") if form else 0
        start = entry.start if size <= self.inside else self.unpack(self.place, entry.start)[0]
        if not size or start + size > len(self.data):
            raise ImageError(_OUTSIDE)
        found = np.frombuffer(self.data[start : start + size], self.order + form)
        return found.astype(np.int64)

    def only(self, at: int, colors: bool) -> bytes:
        """Returns the file with a single directory of what makes pixels; with `colors`, three bands are RGB."""
        kept = []
        for tag, entry in self.entries(at):
            # Pillow keeps a fourth band only if nothing or alpha is said about it.
            unknown = tag == _EXTRA and (entry.count > 1 or (colors and not any(entry.raw[-self.inside :])))
            if tag == _MEANING and colors:
                rgb = struct.pack(f"{self.order}H", _RGB).ljust(self.inside, b"\0")
                kept.append(entry.raw[: -self.inside] + rgb)
            elif tag in _KEPT and not unknown:
                kept.append(entry.raw)
        count = struct.pack(self.order + ("Q" if self.big else "H"), len(kept))
        place = struct.pack(self.order + self.place, len(self.data) + len(self.data) % 2)
        padding = b"\0" * (len(self.data) % 2)
        rest = memoryview(self.data)[self.first + self.inside :]
        return b"".join([self.data[: self.first], place, rest, padding, count, *kept, b"\0" * self.inside])


def exif_orientation(exif: bytes) -> int:
    """Returns the orientation, 1 to 8, that EXIF data say; 1, as stored, if they say none or are damaged."""
    exif = exif.removeprefix(b"Exif\0\0")
    if not exif.startswith(SIGNATURES):
        return 1
    tiff = _Tiff(exif)
    with contextlib.suppress(struct.error):
        for tag, entry in tiff.entries(*tiff.unpack(tiff.place, tiff.first)):
            if tag == _ORIENTATION:
                (orientation,) = tiff.unpack("H", entry.start)
                return orientation if entry.kind == 3 and 1 <= orientation <= 8 else 1
    return 1


def read_tiff(data, whole: bool = True) -> Header:
    """Reads the header of a TIFF; with `whole`, the checksums of deflated pixels, too. No others have any.

    Raises:
        ImageError: Something is missing or is not where it must be.
    """
    tiff = _Tiff(data)
    try:
        places = tiff.directories()
        if not places:
            raise ImageError("is damaged: it holds no image")
        found = {tag: tiff.numbers(entry) for tag, entry in tiff.entries(places[0]) if tag in _READ}
    except (struct.error, OverflowError) as error:
        raise ImageError(_OUTSIDE) from error
    if not {_WIDTH, _HEIGHT} <= found.keys() or any(len(found[tag]) > 1 for tag in found.keys() & _SINGLE):
        raise ImageError("is damaged: it says no size, or several")
    if len({*found.get(_BITS, [1])}) > 1:
        raise ImageError("has bands of different depths, which are not read")
    one = {tag: int(numbers[0]) for tag, numbers in found.items()}
    header = Header(
        "TIFF",
        one[_WIDTH],
        one[_HEIGHT],
        one.get(_BITS, 1),
        one.get(_BANDS, 1),
        one[_ORIENTATION] if 1 <= one.get(_ORIENTATION, 0) <= 8 else 1,
        len(places),
        unsigned=one.get(_NUMBERS, 1) == 1,
        colors=one.get(_MEANING) in (0, 1, _RGB),
    )
    if header.bands > 4:
        raise ImageError(f"has {header.bands} bands, and at most 4 are read: save the red, green and blue ones alone")
    header.check(len(data), _INFLATIONS.get(one.get(_COMPRESSION, 1), 0))
    _check_pixels(data, header, found, one, whole)
    return header


def _check_pixels(data, header: Header, found: dict[int, np.ndarray], one: dict[int, int], whole: bool) -> None:
    """Checks that the parts that make the image, strips or tiles, are in the file and have enough bytes."""
    compression = one.get(_COMPRESSION, _STORED)
    planes, bands = (header.bands, 1) if one.get(_PLANES, 1) == 2 else (1, header.bands)
    none = np.zeros(0, np.int64)
    if _TILES in found:
        width, height = one.get(_TILE_WIDTH, 0), one.get(_TILE_HEIGHT, 0)
        Header("TIFF", width, height, header.bits, header.bands).check(len(data), _INFLATIONS.get(compression, 0))
        count = math.ceil(header.height / height) * math.ceil(header.width / width)
        places, sizes, last = found[_TILES], found.get(_TILE_BYTES, none), height
    else:
        width, height = header.width, min(one.get(_ROWS, header.height), header.height)
        count = math.ceil(header.height / max(1, height))
        places, sizes, last = (
            found.get(_STRIPS, none),
            found.get(_STRIP_BYTES, none),
            header.height - (count - 1) * height,
        )
    if height < 1 or not count * planes == len(places) == len(sizes):
        raise ImageError("is damaged: the number of its strips or tiles is not that of an image of its size")
    heights = ([height] * (count - 1) + [last]) * planes
    if (places < 8).any() or (sizes < 1).any() or (places + sizes > len(data)).any():
        raise ImageError(_OUTSIDE)
    row = math.ceil(width * bands * header.bits / 8)
    if one.get(_MEANING) == _YCBCR:  # bands of colour may be smaller
        return
    if compression == _STORED and (sizes < np.multiply(heights, row)).any():
        raise ImageError("is damaged or cut off: it has fewer pixels than its header says")
    if compression in _DEFLATE and whole:
        for start, size, rows in zip(places.tolist(), sizes.tolist(), heights, strict=True):
            _check_deflated(bytes(data[start : start + size]), rows * row, height * row)


def _check_deflated(stored: bytes, least: int, most: int) -> None:
    """Checks the length and the checksum of a part; the last one may be as long as the others."""
    stream = zlib.decompressobj()
    try:
        length = len(stream.decompress(stored, most))
        whole = stream.eof or (not stream.decompress(stream.unconsumed_tail, 1) and stream.eof)
    except zlib.error:
        whole = False
    if not whole or length < least:
        raise ImageError("is damaged: a checksum in it is wrong, or pixels are missing")


def bare(encoded: bytes, header: Header) -> bytes:
    """Returns a TIFF of nothing but the first image, as it is stored."""
    tiff = _Tiff(encoded)
    return tiff.only(tiff.directories()[0], header.colors and header.bands >= 3)
