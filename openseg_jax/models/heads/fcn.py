"""The fully convolutional head (Long, Shelhamer, Darrell 2015), and the pixel classifier that other heads reuse."""

import jax
from flax import nnx

from openseg_jax.models.layers import ChannelDropout, Conv, ConvNormAct, FeatureMap
from openseg_jax.models.segmentor import Head, Taps, TapSpec


class PixelClassifier(nnx.Module):
    """3x3 convolution, norm and activation, dropout, 1x1 convolution to classes: (N, h, w, C) -> (N, h, w, K) logits.

    channels: in between, C when None. bias, transform_bias: of the 1x1 and the 3x3 convolution.
    """

    def __init__(
        self, in_channels: int, num_classes: int, norm, channels: int | None, dropout, *, bias=True, transform_bias=True
    ):
        channels = channels or in_channels
        self.transform = ConvNormAct(in_channels, channels, 3, norm, bias=transform_bias)
        self.dropout = ChannelDropout(dropout)
        self.classify = Conv(channels, num_classes, 1, bias=bias)

    def __call__(self, x: FeatureMap, *, train: bool, rngs: jax.Array | None) -> FeatureMap:
        x = self.transform(x, train=train)
        return self.classify(self.dropout(x, train=train, rngs=rngs))


class FCNHead(Head):
    """taps -> {"out": (N, h, w, K) logits}: a pixel classifier on the high tap; one on the low tap is "aux".

    Args:
        channels: The width of the classifier; None takes that of the tap.
        aux_channels: The width of the auxiliary one; 0 leaves it out.
        dropout: The rate in both.
        classifier_bias: Whether their last convolutions have a bias.
    """

    def __init__(
        self,
        taps: TapSpec,
        num_classes: int,
        norm,
        *,
        channels: int | None = None,
        aux_channels: int = 0,
        dropout: float = 0.1,
        classifier_bias: bool = False,
    ):
        self.out = PixelClassifier(taps.high.channels, num_classes, norm, channels, dropout, bias=classifier_bias)
        aux = PixelClassifier(taps.low.channels, num_classes, norm, aux_channels, dropout, bias=classifier_bias)
        self.aux = aux if aux_channels else None

    def __call__(self, taps: Taps, *, train: bool, rngs: jax.Array | None = None) -> dict[str, FeatureMap]:
        aux_rng, rng = (None, None) if rngs is None else jax.random.split(rngs)
        aux = {"aux": self.aux(taps.low, train=train, rngs=aux_rng)} if self.aux is not None else {}
        return aux | {"out": self.out(taps.high, train=train, rngs=rng)}
