"""Image files before a decoder sees them: are all of their bytes there, what do checksums say, how large are they?

Decoders fill what is missing with zeros or grey, skip checksums, and allocate whatever a header says. So a file is
checked here first, and a decoder gets a file that is whole: of PNGs and TIFFs, only the parts that make pixels.
"""

import struct

from openseg_jax.data.containers import jpeg, others, png, tiff
from openseg_jax.data.containers.header import Header, ImageError, max_pixels

__all__ = ["Header", "ImageError", "bare", "max_pixels", "read_header"]

_READERS = (
    (png.SIGNATURE, png.read_png),
    (jpeg.SIGNATURE, jpeg.read_jpeg),
    *((signature, tiff.read_tiff) for signature in tiff.SIGNATURES),
    (b"BM", others.read_bmp),
    (b"GIF8", others.read_gif),
)
_FILM = "is a film, and an image is wanted: films are .mp4, .avi, .mov and .mkv"
_NAMED = (  # what is often found under the name of an image
    (0, b"RIFF", _FILM),
    (0, b"\x1aE\xdf\xa3", _FILM),
    (4, b"ftypavif", "is an AVIF"),
    (4, b"ftyphei", "is a HEIC"),
    (4, b"ftypmif1", "is a HEIC"),
    (4, b"ftyp", _FILM),
    (4, b"jP  ", "is a JPEG 2000"),
    (0, b"version https://git-lfs", "is a pointer of Git LFS, and the file itself was not fetched"),
    (0, b"<", "is a page of HTML or XML"),
    (0, b"%PDF", "is a PDF"),
    (0, b"\x93NUMPY", "is an array of NumPy"),
    (0, b"PK\x03\x04", "is a zip"),
)


def read_header(data, whole: bool = True) -> Header:
    """Checks a file, bytes or mapped memory, and returns what it says about its pixels.

    whole: Whether the pixels' checksums are compared and all parts looked at; otherwise only as far as the size needs.

    Raises:
        ImageError: The file is empty, of another kind, cut off, damaged or too large.
    """
    if not len(data):
        raise ImageError("is empty")
    try:
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return others.read_webp(data, whole)
        for signature, read in _READERS:
            if data[: len(signature)] == signature:
                return read(data, whole)
    except (struct.error, IndexError) as error:
        raise ImageError("is cut off: its header is not whole") from error
    for at, begin, what in _NAMED:
        if data[at : at + len(begin)] == begin:
            raise ImageError(what)
    raise ImageError("does not begin like a PNG, JPEG, TIFF or BMP, so it is damaged or of another kind")


def bare(encoded: bytes, header: Header, grey: bool = False) -> bytes:
    """Returns what a decoder needs of a checked file; `grey` makes the indices of a PNG with a palette grey values."""
    if header.format == "PNG":
        return png.bare(encoded, header, grey)
    return tiff.bare(encoded, header) if header.format == "TIFF" else encoded
