"""BMP, GIF and WebP: they have no checksums, but their parts must be in the file."""

import struct

from openseg_jax.data.containers.header import Header, ImageError
from openseg_jax.data.containers.tiff import exif_orientation

_CUT_OFF = "is damaged or cut off: it says that it is longer"


def read_bmp(data, whole: bool = True) -> Header:
    """Reads the header of a BMP, whose pixels must be in the file, uncompressed; raises ImageError otherwise."""
    start, kind = struct.unpack_from("<II", data, 10)
    if kind == 12:
        (width, height, _, bits), compression = struct.unpack_from("<HHHH", data, 18), 0
    elif 40 <= kind <= 124:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    else:
        raise ImageError("is a BMP of an unknown kind")
    if compression not in (0, 3) or bits not in (1, 4, 8, 16, 24, 32):
        raise ImageError(
            f"is a BMP with {bits} bits and compression {compression}, which is not read: save it as a PNG"
        )
    bands = 1 if bits <= 8 else 3
    header = Header("BMP", width, abs(height), min(bits, 8), bands)
    header.check(len(data), 1)
    if start < 14 + kind or start + (width * bits + 31) // 32 * 4 * abs(height) > len(data):
        raise ImageError(_CUT_OFF)
    return header


def read_gif(data, whole: bool = True) -> Header:
    """Reads the header of a GIF and counts its images; raises ImageError unless it goes on to its end."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at, frames = 13 + _colors(flags), 0
    while data[at : at + 1] != b";":  # the end
        if data[at : at + 1] == b",":
            frames += 1
            left, top, across, down, flags = struct.unpack_from("<HHHHB", data, at + 1)
            if left + across > width or top + down > height:
                raise ImageError("is damaged: an image in it is larger than it")
            at = _blocks(data, at + 11 + _colors(flags))
        elif data[at : at + 1] == b"!":
            at = _blocks(data, at + 2)
        else:
            raise ImageError(_CUT_OFF)
    header = Header("GIF", width, height, 8, 1, frames=frames)
    header.check(len(data), 4096 if frames else 1)  # LZW
    return header


def _colors(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 128 else 0


def _blocks(data, at: int) -> int:
    """Returns where a chain of blocks ends, each of which says its length."""
    while data[at : at + 1] not in (b"", b"\0"):
        at += 1 + data[at]
    return at + 1


def read_webp(data, whole: bool = True) -> Header:
    """Reads the header of a WebP; raises ImageError unless all of its chunks are in the file."""
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise ImageError(_CUT_OFF)
    at, orientation, frames, width, height = 12, 1, 0, 0, 0
    while at + 8 <= size + 8:
        kind, length = struct.unpack_from("<4sI", data, at)
        content, at = bytes(data[at + 8 : at + 8 + min(length, 2**16)]), at + 8 + length + length % 2
        if kind == b"VP8X" and length >= 10:
            width, height = (1 + int.from_bytes(content[i : i + 3], "little") for i in (4, 7))
        elif kind == b"VP8L" and length >= 5 and not width:
            packed = int.from_bytes(content[1:5], "little")
            width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
        elif kind == b"VP8 " and length >= 10 and not width:
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 6))
        elif kind == b"EXIF":
            orientation = exif_orientation(content)
        frames += kind == b"ANMF"
    if not width or at > size + 9:
        raise ImageError(_CUT_OFF)
    header = Header("WEBP", width, height, orientation=orientation, frames=max(1, frames))
    header.check(len(data), 0)
    return header
