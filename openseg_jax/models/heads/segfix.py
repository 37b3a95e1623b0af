"""SegFix (Yuan, Xie, Chen, Wang, ECCV 2020, arXiv:2007.04269): where boundaries are, and which way leads off them."""

import jax
from flax import nnx

from openseg_jax.models.layers import Conv, ConvNormAct, FeatureMap
from openseg_jax.models.segmentor import Head, Taps, TapSpec


class SegFixHead(Head):
    """taps -> {"mask": (N, h, w, 2), "direction": (N, h, w, D)} logits, at the size of the high tap.

    The mask tells interior and boundary apart; the direction is that of the nearest interior pixel.

    Args:
        num_directions: D.
        channels: The width of both branches.
    """

    full_size = False  # the original does not upsample these outputs
    main_output = "mask"
    needs_classes = False

    def __init__(self, taps: TapSpec, num_classes: int | None, norm, *, num_directions: int = 8, channels: int = 256):
        del num_classes  # boundaries have no class
        self.mask = BoundaryBranch(taps.high.channels, channels, 2, norm)
        self.direction = BoundaryBranch(taps.high.channels, channels, num_directions, norm)

    def __call__(self, taps: Taps, *, train: bool, rngs: jax.Array | None = None) -> dict[str, FeatureMap]:
        del rngs  # no dropout
        return {"mask": self.mask(taps.high, train=train), "direction": self.direction(taps.high, train=train)}


class BoundaryBranch(nnx.Module):
    """1x1 convolution, norm and activation, 1x1 convolution."""

    def __init__(self, in_channels: int, channels: int, outputs: int, norm):
        self.transform = ConvNormAct(in_channels, channels, 1, norm)
        self.classify = Conv(channels, outputs, 1, bias=False)

    def __call__(self, x: FeatureMap, *, train: bool) -> FeatureMap:
        return self.classify(self.transform(x, train=train))
