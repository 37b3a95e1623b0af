"""The fully convolutional head (Long, Shelhamer, Darrell 2015), and the pixel classifier that other heads reuse."""

from __future__ import annotations

import jax
from flax import nnx

from openseg_jax.models.backbones.taps import Taps
from openseg_jax.models.layers import ChannelDropout, Conv, ConvNormAct, FeatureMap


class PixelClassifier(nnx.Module):
    """3x3 convolution, norm and activation, dropout, 1x1 convolution to classes: (N, h, w, C) -> (N, h, w, K) logits.

    channels: width in between, C when None.
    bias: whether the classifying convolution has one; the checkpoints of the original differ in this.
    """

    def __init__(self, in_channels: int, num_classes: int, norm, *, channels: int | None, dropout: float, bias: bool):
        channels = channels or in_channels
        self.transform = ConvNormAct(in_channels, channels, 3, norm, bias=True)
        self.dropout = ChannelDropout(dropout)
        self.classify = Conv(channels, num_classes, 1, bias=bias)

    def __call__(self, x: FeatureMap, *, train: bool, rngs: jax.Array | None) -> FeatureMap:
        x = self.transform(x, train=train)
        return self.classify(self.dropout(x, train=train, rngs=rngs))


class FCNHead(nnx.Module):
    """taps -> {"out": (N, h, w, K) logits}: a pixel classifier on the high tap."""

    def __init__(
        self,
        taps: Taps,
        num_classes: int,
        norm,
        *,
        channels: int | None = None,
        dropout: float = 0.1,
        classifier_bias: bool = False,
    ):
        self.out = PixelClassifier(
            taps.high, num_classes, norm, channels=channels, dropout=dropout, bias=classifier_bias
        )

    def __call__(self, taps: Taps, *, train: bool, rngs: jax.Array | None = None) -> dict[str, FeatureMap]:
        return {"out": self.out(taps.high, train=train, rngs=rngs)}
