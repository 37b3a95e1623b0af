"""JPEG: the segments are walked from the first to the last; the pixels have no checksum."""

import math
import re

from openseg_jax.data.containers.header import Header, ImageError
from openseg_jax.data.containers.tiff import exif_orientation

SIGNATURE = b"\xff\xd8"
_START, _END, _SCAN, _EXIF = 0xD8, 0xD9, 0xDA, 0xE1
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # the kinds of headers
_SEQUENTIAL, _PROGRESSIVE, _LOSSLESS = (0xC0, 0xC1), 0xC2, 0xC3
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # between pixels: neither a byte 255 nor a restart
_FILL = re.compile(rb"\xff+(?=\xff)")
_MOST_SCANS = 100  # libjpeg goes over the image for each; encoders write 10 or so
_CUT_OFF = "is cut off: the marker with which a JPEG ends is missing"


def read_jpeg(data, whole: bool = True) -> Header:
    """Reads the header of a JPEG; with `whole`, everything up to its end, and that all bands have pixels.

    Bytes behind the end, such as a preview, are ignored. Changed bytes among the pixels are not found.

    Raises:
        ImageError: Something is missing, or is not where it must be.
    """
    header, bands, seen, orientation, scans, at = None, b"", set(), 0, 0, 2
    while True:
        marker, start, end = _segment(data, at)
        if marker == _END:
            break
        content = bytes(data[start:end]) if marker in _FRAMES or marker in (_SCAN, _EXIF) else b""
        at = end
        if marker in _FRAMES:
            if header:
                raise ImageError("is damaged: it has two headers")
            header, bands = _header(content, marker, len(data)), content[6::3]
        elif marker == _EXIF and not orientation and not scans and content.startswith(b"Exif\0\0"):
            orientation = exif_orientation(content[6:])
        elif marker == _SCAN:
            if not header or len(content) < 4 or not {*content[1:-3:2]} <= {*bands}:
                raise ImageError("is damaged: its pixels come before its header, or are of other bands")
            if not whole:
                break
            seen |= {*content[1:-3:2]}
            scans += 1
            found = _MARKER.search(data, at)
            if not found:
                raise ImageError(_CUT_OFF)
            at = found.start()
    if not header or (whole and seen != {*bands}) or scans > _MOST_SCANS:
        raise ImageError(
            "has too many scans" if scans > _MOST_SCANS else "is damaged: pixels of some bands are missing"
        )
    return Header("JPEG", header.width, header.height, 8, header.bands, orientation or 1)


def _segment(data, at: int) -> tuple[int, int, int]:
    """Returns the marker at a place, and where its content starts and ends."""
    if fill := _FILL.match(data, at):
        at = fill.end()
    head = data[at : at + 4]
    if len(head) < 2:
        raise ImageError(_CUT_OFF)
    if head[0] != 0xFF or head[1] in (0, 1, _START, *range(0xD0, 0xD8)):
        raise ImageError("is damaged: what follows a segment of the JPEG is none")
    if head[1] == _END:
        return _END, at + 2, at + 2
    length = int.from_bytes(head[2:])
    if len(head) < 4 or at + 2 + length > len(data):
        raise ImageError(_CUT_OFF)
    if length < 2:
        raise ImageError("is damaged: a segment of the JPEG has no length")
    return head[1], at + 4, at + 2 + length


def _header(content: bytes, marker: int, available: int) -> Header:
    bands = content[5] if len(content) > 5 else 0
    if len(content) != 6 + 3 * bands or bands not in (1, 3, 4):
        raise ImageError(f"is a JPEG of {bands} bands, and 1, 3 or 4 are read")
    bits, height, width = content[0], int.from_bytes(content[1:3]), int.from_bytes(content[3:5])
    header = Header("JPEG", width, height, bits, bands)
    header.check(available, 0)
    if bits != 8:
        raise ImageError(f"is a JPEG of {bits} bits per band, and 8 are read")
    across, down = [byte >> 4 for byte in content[7::3]], [byte & 15 for byte in content[7::3]]
    if not all(0 < step <= 4 for step in across + down):
        raise ImageError("is damaged: its header says impossible samplings")
    blocks = sum(
        math.ceil(width * x / max(across) / 8) * math.ceil(height * y / max(down) / 8)
        for x, y in zip(across, down, strict=True)
    )
    bits_per_block = {_PROGRESSIVE: 1, _LOSSLESS: 64} | dict.fromkeys(_SEQUENTIAL, 2)
    if blocks * bits_per_block.get(marker, 0) > 8 * available:
        raise ImageError(
            f"has {width} x {height} pixels by its header, which is far too large for its {available} bytes"
        )
    return header
