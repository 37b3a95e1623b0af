"""Object-contextual representations (Yuan, Chen, Wang, ECCV 2020, arXiv:1909.11065).

    low  -> soft object regions (auxiliary logits) ----.
                                                       gather -> object region vectors --.
    high -> pixel representations -----------------------'                               attend -> object context
                       '--------------------------------------------------------------------'        |
                       '----------------------------------------------------------- fuse <-----------'
                                                                                      '-> classify

Section 3.2 of the paper; figure 3 shows the same three steps.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from openseg_jax.models import resize
from openseg_jax.models.heads.fcn import PixelClassifier
from openseg_jax.models.heads.isa import long_range, pad_to_blocks
from openseg_jax.models.layers import ChannelDropout, Conv, ConvNormAct, FeatureMap, chain, concat, softmax
from openseg_jax.models.pooling import max_pool
from openseg_jax.models.segmentor import Head, Taps, TapSpec, require_same_stride


def gather(pixels: FeatureMap, logits: FeatureMap) -> FeatureMap:
    """Makes object region representations (eq. 8): the means of the pixels weighted by a softmax **over space**.

    pixels (N, h, w, C), logits (N, h, w, K) -> (N, K, 1, C).
    """
    regions = softmax(logits.filled_outside(-jnp.inf), axis=(1, 2))
    return FeatureMap(jnp.einsum("nhwk,nhwc->nkc", regions, pixels.values)[:, :, None])


def pyramid_gather(pixels: FeatureMap, logits: FeatureMap, scales: tuple[int, ...]) -> FeatureMap:
    """Gathers regions of the whole map, and of every s-th row and column of it, for each scale s and place to begin.

    (N, K * sum of s^2, 1, C): by scale, then place, then class. Part of the original's code that no named model uses;
    as there, the zeros that make a map divisible by s take part.
    """
    regions = []
    for scale in scales:
        factors = (scale, scale)
        padded = [pad_to_blocks(x, factors) for x in (pixels, logits)]
        places = long_range(padded[0], factors=factors)
        values, scores = (places.split(x.values) for x in padded)
        if places.real is not None:
            scores = jnp.where(places.real[..., None], scores, -jnp.inf)
        gathered = jnp.einsum("glk,glc->gkc", softmax(scores, axis=1), values)
        regions.append(gathered.reshape(pixels.shape[0], -1, pixels.shape[-1]))
    return FeatureMap(jnp.concatenate(regions, axis=1)[:, :, None])


class ObjectAttention(nnx.Module):
    """Object contextual representations (eq. 9 to 11): each pixel attends to the K regions.

    pixels (N, h, w, C), regions (N, K, 1, C) -> (N, h, w, C). The affinity is scaled by key_channels^-0.5 and
    normalised **over the classes**. query, key, value and project are phi, psi, delta and rho of the paper.
    pool: attend on pixels max-pooled by this factor, and upsample the context.
    """

    def __init__(self, channels: int, key_channels: int, norm, *, pool: int = 1):
        def unit(in_channels, out_channels):
            return ConvNormAct(in_channels, out_channels, 1, norm, bias=True)

        self.scale, self.pool = key_channels**-0.5, pool
        self.query = nnx.List([unit(channels, key_channels), unit(key_channels, key_channels)])
        self.key = nnx.List([unit(channels, key_channels), unit(key_channels, key_channels)])
        self.value = unit(channels, key_channels)
        self.project = unit(key_channels, channels)

    def __call__(self, pixels: FeatureMap, regions: FeatureMap, *, train: bool) -> FeatureMap:
        pooled = max_pool(pixels, self.pool, stride=self.pool) if self.pool > 1 else pixels
        affinity = self.affinity(pooled, regions, train=train)
        context = self.distribute(affinity, self.value(regions, train=train), train=train)
        return resize.bilinear(context, to=pixels.canvas) if self.pool > 1 else context

    def affinity(self, pixels: FeatureMap, regions: FeatureMap, *, train: bool) -> FeatureMap:
        """Says how much each pixel belongs to each region (eq. 9 and 10): (N, h, w, K), of sum 1."""
        query, key = chain(self.query, pixels, train=train), chain(self.key, regions, train=train)
        logits = jnp.einsum("nhwc,nkc->nhwk", query.values, key.values[:, :, 0]) * self.scale
        return pixels.replace(softmax(logits, axis=-1)).zero_outside()

    def distribute(self, affinity: FeatureMap, value: FeatureMap, *, train: bool) -> FeatureMap:
        """Takes the mean of the regions' values at each pixel, weighted by the affinity (eq. 11): (N, h, w, C)."""
        context = jnp.einsum("nhwk,nkc->nhwc", affinity.values, value.values[:, :, 0])
        return self.project(affinity.replace(context), train=train)


class ObjectContext(nnx.Module):
    """Gather, attend and fuse: pixels (N, h, w, C) and soft regions (N, h, w, K) -> (N, h, w, out_channels)."""

    def __init__(self, channels: int, key_channels: int, out_channels: int, norm, *, dropout, pool=1, scales=(1,)):
        self.scales = tuple(scales)
        self.attend = ObjectAttention(channels, key_channels, norm, pool=pool)
        self.fuse = ConvNormAct(2 * channels, out_channels, 1, norm, bias=True)
        self.dropout = ChannelDropout(dropout)

    def __call__(self, pixels: FeatureMap, logits: FeatureMap, *, train: bool, rngs: jax.Array | None) -> FeatureMap:
        regions = gather(pixels, logits) if self.scales == (1,) else pyramid_gather(pixels, logits, self.scales)
        return self.augment(pixels, regions, train=train, rngs=rngs)

    def augment(self, pixels: FeatureMap, regions: FeatureMap, *, train: bool, rngs: jax.Array | None) -> FeatureMap:
        """Augments the pixels (eq. 12): joins them with the context that these regions give them."""
        context = self.attend(pixels, regions, train=train)
        return self.dropout(self.fuse([context, pixels], train=train), train=train, rngs=rngs)


class ASPObjectContext(nnx.Module):
    """Object context as one branch of an atrous spatial pyramid: x (N, h, w, C) -> (N, h, w, out_channels).

    Branches of `channels` each: object context, 1x1, and a 3x3 for each dilation.
    """

    def __init__(self, in_channels: int, channels: int, out_channels: int, norm, *, dilations, dropout: float):
        self.pixels = ConvNormAct(in_channels, channels, 3, norm, bias=True)
        self.attend = ObjectAttention(channels, channels // 2, norm)
        self.local = ConvNormAct(in_channels, channels, 1, norm, bias=True)
        self.atrous = nnx.List(ConvNormAct(in_channels, channels, 3, norm, dilation=d, bias=True) for d in dilations)
        self.fuse = ConvNormAct((2 + len(dilations)) * channels, out_channels, 1, norm, bias=True)
        self.dropout = ChannelDropout(dropout)

    def __call__(self, x: FeatureMap, logits: FeatureMap, *, train: bool, rngs: jax.Array | None) -> FeatureMap:
        pixels = self.pixels(x, train=train)
        context = self.attend(pixels, gather(pixels, logits), train=train)
        branches = [context, *(branch(x, train=train) for branch in (self.local, *self.atrous))]
        return self.dropout(self.fuse(concat(branches), train=train), train=train, rngs=rngs)


class OCRHead(Head):
    """taps -> {"aux": soft object regions, "out": segmentation}: (N, h, w, K) logits.

    Args:
        channels: The width of pixel and object representations.
        key_channels: The width of the attention.
        aux_channels: The width of the auxiliary classifier; None takes that of the low tap.
        dropout: The rate behind the augmented representations.
        aux_dropout: The rate in the auxiliary classifier.
        pool: Attention sees pixels max-pooled by this factor. Like `scales`, it changes no checkpoint.
        scales: Those of `pyramid_gather`.
    """

    def __init__(
        self,
        taps: TapSpec,
        num_classes: int,
        norm,
        *,
        channels: int = 512,
        key_channels: int = 256,
        aux_channels: int | None = None,
        dropout: float = 0.05,
        aux_dropout: float = 0.0,
        pool: int = 1,
        scales: tuple[int, ...] = (1,),
    ):
        if not self.needs_labels:  # which can gather at any stride
            require_same_stride(taps)
        self.aux = PixelClassifier(taps.low.channels, num_classes, norm, aux_channels, aux_dropout)
        self.pixels = ConvNormAct(taps.high.channels, channels, 3, norm, bias=True)
        self.context = ObjectContext(channels, key_channels, channels, norm, dropout=dropout, pool=pool, scales=scales)
        self.classify = Conv(channels, num_classes, 1)

    def __call__(self, taps: Taps, *, train: bool, rngs: jax.Array | None = None, **truth) -> dict[str, FeatureMap]:
        aux_rng, rng = (None, None) if rngs is None else jax.random.split(rngs)
        aux = self.aux(taps.low, train=train, rngs=aux_rng)
        pixels = self.pixels(taps.high, train=train)
        context = self.context(pixels, aux, train=train, rngs=rng, **truth)
        return {"aux": aux, "out": self.classify(context)}


class ASPOCRHead(Head):
    """ASP-OCR of the original code: taps -> {"aux", "out"}: (N, h, w, K) logits. Options as in `OCRHead`.

    Args:
        channels: The width of each branch of the pyramid.
        out_channels: The width after their fusion.
        dilations: Those of the 3x3 convolutions of the pyramid.
        classifier_bias: Whether the last convolutions of both outputs have a bias.
    """

    def __init__(
        self,
        taps: TapSpec,
        num_classes: int,
        norm,
        *,
        channels: int = 256,
        out_channels: int = 256,
        aux_channels: int = 512,
        dilations: tuple[int, ...] = (12, 24, 36),
        dropout: float = 0.1,
        aux_dropout: float = 0.0,
        classifier_bias: bool = True,
    ):
        require_same_stride(taps)
        low, high = taps.low.channels, taps.high.channels
        self.aux = PixelClassifier(low, num_classes, norm, aux_channels, aux_dropout, bias=classifier_bias)
        self.context = ASPObjectContext(high, channels, out_channels, norm, dilations=dilations, dropout=dropout)
        self.classify = Conv(out_channels, num_classes, 1, bias=classifier_bias)

    def __call__(self, taps: Taps, *, train: bool, rngs: jax.Array | None = None) -> dict[str, FeatureMap]:
        aux_rng, rng = (None, None) if rngs is None else jax.random.split(rngs)
        aux = self.aux(taps.low, train=train, rngs=aux_rng)
        context = self.context(taps.high, aux, train=train, rngs=rng)
        return {"aux": aux, "out": self.classify(context)}
