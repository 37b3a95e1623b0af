"""What the bytes of an image file say about its pixels, and how much of that is believed."""

import dataclasses
import os

from openseg_jax.errors import InputError

LIMIT = "OPENSEG_MAX_PIXELS"
# 8192 x 8192, for example. Whatever the format, that many are decoded within 5 s on one core, in less than 1 GB.
DEFAULT_LIMIT = 2**26


class ImageError(Exception):
    """Why a file is no image that can be read, as what follows the name of the file: "is cut off"."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says about its pixels.

    Attributes:
        format: "PNG", "JPEG", "TIFF", "BMP", "GIF" or "WEBP".
        width: The pixels of a row, as stored.
        height: The rows, as stored.
        bits: The bits of a channel.
        bands: The channels; a palette is one.
        orientation: The EXIF orientation, 1 to 8.
        frames: The number of images.
        mode: Pillow's name of the kind of pixels, of PNGs only.
        unsigned: Whether the values of a TIFF are whole numbers from 0 on.
        colors: Whether the bands of a TIFF are grey or red, green and blue, and not CMYK or the like.
        palette: The colours of a PNG's palette, one byte after the other.
        transparency: What a PNG says to be transparent.
        stored: Where the chunks of a PNG's pixels begin and end.
    """

    format: str
    width: int
    height: int
    bits: int = 8
    bands: int = 3
    orientation: int = 1
    frames: int = 1
    mode: str = ""
    unsigned: bool = True
    colors: bool = True
    palette: bytes = b""
    transparency: bytes = b""
    stored: tuple[int, int] = (0, 0)

    @property
    def size(self) -> tuple[int, int]:
        """The (height, width) upright."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)

    def check(self, available: int, per_byte: int) -> None:
        """Raises ImageError if there are no pixels, or more than allowed, or than `available` bytes can hold.

        per_byte: How many bytes the format can make of one byte; 0 if there is no bound.
        """
        shape = f"has {self.width} x {self.height} pixels by its header"
        if self.width < 1 or self.height < 1:
            raise ImageError(shape)
        pixels = self.width * self.height
        if per_byte and pixels * self.bands * self.bits > 8 * per_byte * available:
            raise ImageError(f"{shape}, which is far too large for its {available} bytes")
        limit = max_pixels()
        if pixels * max(1, self.bands * self.bits // 32) > limit:
            more = f" with {self.bands} x {self.bits} bits" if pixels <= limit else ""
            raise ImageError(
                f"{shape}{more}, which is far too large (more than {limit} pixels of 32 bits): if that is right, set "
                f"the environment variable {LIMIT} to a larger number"
            )


def max_pixels() -> int:
    """Returns how many pixels an image may have; raises InputError if the environment variable is no number."""
    text = os.environ.get(LIMIT, str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise InputError(f"the environment variable {LIMIT} should be a number of pixels, found {text!r}")
    return int(text)
