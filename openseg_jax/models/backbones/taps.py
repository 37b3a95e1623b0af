"""What a backbone hands to a head."""

from __future__ import annotations

from typing import Any, NamedTuple


class Tap(NamedTuple):
    """What is known of a feature map before it exists."""

    channels: int
    stride: int  # of the images, in pixels


class Taps(NamedTuple):
    """The feature maps of a backbone, and the two that most heads are built on; or a `Tap` for each of them.

    maps: every tap, finest first, as the original returns them.
    low: what auxiliary classifiers read (the last but one stage of a ResNet).
    high: what the head itself reads. HRNet has a single map for both: all branches joined at the finest resolution.
    """

    maps: tuple[Any, ...]
    low: Any
    high: Any


def require_same_stride(taps: Taps, why: str) -> None:
    """Raises ValueError unless the low and the high tap have one resolution."""
    if taps.low.stride != taps.high.stride:
        raise ValueError(
            f"{why}, but the last two stages of this backbone have strides {taps.low.stride} and {taps.high.stride}; "
            "take one that ends in _dilated8 or _dilated16, or an HRNet"
        )
