"""Object-contextual representations (Yuan, Chen, Wang, ECCV 2020, arXiv:1909.11065).

    low  -> soft object regions (auxiliary logits) ----.
                                                       gather -> object region vectors --.
    high -> pixel representations -----------------------'                               attend -> object context
                       '--------------------------------------------------------------------'        |
                       '----------------------------------------------------------- fuse <-----------'
                                                                                      '-> classify

Section 3.2 of the paper; figure 3 shows the same three steps.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from openseg_jax.models.backbones.taps import Taps
from openseg_jax.models.heads.fcn import PixelClassifier
from openseg_jax.models.layers import ChannelDropout, Conv, ConvNormAct, FeatureMap, concat


def gather(pixels: FeatureMap, logits: FeatureMap) -> FeatureMap:
    """Object region representations: per class, the mean of the pixels weighted by a softmax **over space** (eq. 8).

    pixels (N, h, w, C), logits (N, h, w, K) -> (N, K, 1, C).
    """
    scores = logits.filled_outside(-jnp.inf).astype(jnp.promote_types(logits.values.dtype, jnp.float32))
    regions = jax.nn.softmax(scores, axis=(1, 2)).astype(pixels.values.dtype)
    return FeatureMap(jnp.einsum("nhwk,nhwc->nkc", regions, pixels.values)[:, :, None])


class ObjectAttention(nnx.Module):
    """Object contextual representations (eq. 9 to 11): each pixel attends to the K regions.

    pixels (N, h, w, C), regions (N, K, 1, C) -> (N, h, w, C). The affinity is scaled by key_channels^-0.5 and
    normalised **over the classes**. query, key, value and project are phi, psi, delta and rho of the paper.
    """

    def __init__(self, channels: int, key_channels: int, norm):
        def unit(in_channels, out_channels):
            return ConvNormAct(in_channels, out_channels, 1, norm, bias=True)

        self.scale = key_channels**-0.5
        self.query = nnx.List([unit(channels, key_channels), unit(key_channels, key_channels)])
        self.key = nnx.List([unit(channels, key_channels), unit(key_channels, key_channels)])
        self.value = unit(channels, key_channels)
        self.project = unit(key_channels, channels)

    def __call__(self, pixels: FeatureMap, regions: FeatureMap, *, train: bool) -> FeatureMap:
        query, key = pixels, regions
        for layer in self.query:
            query = layer(query, train=train)
        for layer in self.key:
            key = layer(key, train=train)
        value = self.value(regions, train=train)

        affinity = jnp.einsum("nhwc,nkc->nhwk", query.values, key.values[:, :, 0]) * self.scale
        wide = jnp.promote_types(affinity.dtype, jnp.float32)
        affinity = jax.nn.softmax(affinity.astype(wide), axis=-1).astype(affinity.dtype)
        context = jnp.einsum("nhwk,nkc->nhwc", affinity, value.values[:, :, 0])
        return self.project(pixels.replace(context).zero_outside(), train=train)


class OCRHead(nnx.Module):
    """taps -> {"aux": soft object regions, "out": segmentation}: (N, h, w, K) logits.

    channels: width of pixel and object representations; key_channels: width of the attention.
    aux_channels: width of the auxiliary classifier, that of the low tap when None.
    """

    def __init__(
        self,
        taps: Taps,
        num_classes: int,
        norm,
        *,
        channels: int = 512,
        key_channels: int = 256,
        aux_channels: int | None = None,
        dropout: float = 0.05,
        aux_dropout: float = 0.0,
    ):
        self.aux = PixelClassifier(taps.low, num_classes, norm, channels=aux_channels, dropout=aux_dropout, bias=True)
        self.pixels = ConvNormAct(taps.high, channels, 3, norm, bias=True)
        self.attend = ObjectAttention(channels, key_channels, norm)
        self.fuse = ConvNormAct(2 * channels, channels, 1, norm, bias=True)
        self.dropout = ChannelDropout(dropout)
        self.classify = Conv(channels, num_classes, 1)

    def __call__(self, taps: Taps, *, train: bool, rngs: jax.Array | None = None) -> dict[str, FeatureMap]:
        aux_rng, rng = (None, None) if rngs is None else jax.random.split(rngs)
        aux = self.aux(taps.low, train=train, rngs=aux_rng)
        pixels = self.pixels(taps.high, train=train)
        regions = gather(pixels, aux)
        context = self.attend(pixels, regions, train=train)
        fused = self.fuse(concat([context, pixels]), train=train)
        return {"aux": aux, "out": self.classify(self.dropout(fused, train=train, rngs=rng))}


class ASPOCRHead(nnx.Module):
    """OCR as one branch of an atrous spatial pyramid (ASP-OCR of the original code).

    taps -> {"aux", "out"}: (N, h, w, K) logits. Branches: object context, 1x1, and three 3x3 of growing dilation.
    channels: width of each branch; out_channels: after their fusion. biases: of the two classifying convolutions.
    """

    def __init__(
        self,
        taps: Taps,
        num_classes: int,
        norm,
        *,
        channels: int = 256,
        out_channels: int = 256,
        aux_channels: int = 512,
        dilations: tuple[int, int, int] = (12, 24, 36),
        dropout: float = 0.1,
        aux_dropout: float = 0.0,
        classifier_bias: bool = True,
    ):
        self.aux = PixelClassifier(
            taps.low, num_classes, norm, channels=aux_channels, dropout=aux_dropout, bias=classifier_bias
        )
        self.pixels = ConvNormAct(taps.high, channels, 3, norm, bias=True)
        self.attend = ObjectAttention(channels, channels // 2, norm)
        self.local = ConvNormAct(taps.high, channels, 1, norm, bias=True)
        self.atrous = nnx.List(
            ConvNormAct(taps.high, channels, 3, norm, dilation=dilation, bias=True) for dilation in dilations
        )
        self.fuse = ConvNormAct((2 + len(dilations)) * channels, out_channels, 1, norm, bias=True)
        self.dropout = ChannelDropout(dropout)
        self.classify = Conv(out_channels, num_classes, 1, bias=classifier_bias)

    def __call__(self, taps: Taps, *, train: bool, rngs: jax.Array | None = None) -> dict[str, FeatureMap]:
        aux_rng, rng = (None, None) if rngs is None else jax.random.split(rngs)
        aux = self.aux(taps.low, train=train, rngs=aux_rng)
        pixels = self.pixels(taps.high, train=train)
        context = self.attend(pixels, gather(pixels, aux), train=train)
        branches = [context, *(branch(taps.high, train=train) for branch in (self.local, *self.atrous))]
        fused = self.fuse(concat(branches), train=train)
        return {"aux": aux, "out": self.classify(self.dropout(fused, train=train, rngs=rng))}
