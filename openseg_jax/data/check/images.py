"""Images of which a net would see less than they hold."""

from collections.abc import Iterable

from openseg_jax.data.check.faults import WARNING, Fault, of_files
from openseg_jax.data.check.scan import Scan


def deep_images(scan: Scan) -> list[Fault]:
    """Finds images of 16 bits, of which the upper 8 are read."""
    samples = [s for s in scan.samples() if s.image.deep]
    low, high = _range(s.image.deep for s in samples)
    message = f"images have 16 bits per band, of which the upper 8 are used: their values, {low} to {high}, become "
    message += f"{low >> 8} to {high >> 8}"
    fix = "nothing, if that is enough; otherwise scale all images to 8 bits by one factor"
    if high < 2**15:
        fix = f"scale all images to 8 bits by one factor, such as 255 / {high}, since most of these levels are lost"
    return of_files(scan, "deep_image", message, fix, ((s, s.images[0]) for s in samples), WARNING)


def dropped_bands(scan: Scan) -> list[Fault]:
    """Finds images with a fourth band or an alpha channel that is not opaque everywhere."""
    samples = [s for s in scan.samples() if s.image.dropped]
    low, high = _range(s.image.dropped for s in samples)
    message = (
        f"images have a band besides red, green and blue, or grey, with values from {low} to {high}: it is not used"
    )
    fix = "nothing, if it is alpha; if the classes need it, put it in the place of another band"
    return of_files(scan, "dropped_band", message, fix, ((s, s.images[0]) for s in samples), WARNING)


def _range(ranges: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Returns the lowest and the highest value of all, 0 and 0 of none."""
    lows, highs = zip(*ranges, strict=True) if (ranges := list(ranges)) else ((0,), (0,))
    return min(lows), max(highs)


REDUCED = (deep_images, dropped_bands)
