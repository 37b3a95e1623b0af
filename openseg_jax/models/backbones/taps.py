"""What a backbone hands to a head."""

from typing import NamedTuple

from openseg_jax.models.layers import FeatureMap


class Tap(NamedTuple):
    """The channels and the stride of one feature map that a backbone promises."""

    channels: int
    stride: int  # of the images, in pixels


class Taps(NamedTuple):
    """The feature maps that a backbone gives.

    Attributes:
        maps: Every tap, finest first, as the original returns them.
        low: What auxiliary classifiers read: the last but one stage of a ResNet.
        high: What the head reads. HRNet has one map for both: all branches joined at the finest resolution.
    """

    maps: tuple[FeatureMap, ...]
    low: FeatureMap
    high: FeatureMap


class TapSpec(NamedTuple):
    """What a backbone promises of its `Taps` before they exist, for heads to be built on."""

    maps: tuple[Tap, ...]
    low: Tap
    high: Tap


def require_same_stride(taps: TapSpec, why: str) -> None:
    """Checks that the low and the high tap have one resolution.

    Raises:
        ValueError: They have not; `why` begins the message.
    """
    if taps.low.stride != taps.high.stride:
        raise ValueError(
            f"{why}, but the last two stages of this backbone have strides {taps.low.stride} and {taps.high.stride}; "
            "take one that ends in _dilated8 or _dilated16, or an HRNet"
        )
