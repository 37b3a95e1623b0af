"""OCNet: object context by self-attention over pixels (Yuan, Huang, Guo, Zhang, Chen, Wang 2021, arXiv:1809.00916).

Three ways to gather it: base (every pixel attends to all pixels), pyramid (also within ever smaller regions), and
ASP (as one branch of an atrous spatial pyramid).
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from openseg_jax.models.backbones.taps import Taps, TapSpec
from openseg_jax.models.heads.fcn import PixelClassifier
from openseg_jax.models.heads.head import Head
from openseg_jax.models.heads.self_attention import Partition, SelfAttention
from openseg_jax.models.layers import ChannelDropout, Conv, ConvNormAct, FeatureMap, concat


class OCNetHead(Head):
    """The frame that the three share: taps -> {"aux", "out"}: (N, h, w, K) logits."""

    def __init__(
        self, taps: TapSpec, num_classes: int, norm, *, channels: int, aux_channels: int, context, out_channels
    ):
        self.aux = PixelClassifier(taps.low.channels, num_classes, norm, channels=aux_channels, dropout=0.0)
        self.pixels = ConvNormAct(taps.high.channels, channels, 3, norm, bias=True)
        self.context = context
        self.classify = Conv(out_channels, num_classes, 1)

    def __call__(self, taps: Taps, *, train: bool, rngs: jax.Array | None = None) -> dict[str, FeatureMap]:
        aux = self.aux(taps.low, train=train, rngs=None)
        pixels = self.pixels(taps.high, train=train)
        context = self.context(pixels, train=train, rngs=rngs)
        return {"aux": aux, "out": self.classify(context)}


# ---------------------------------------------------------------------------------------------------------------------
# Base


class BaseOCHead(OCNetHead):
    """The head of base_ocnet.

    pools: one attention for each, on maps max-pooled by this factor; their contexts are added.
    """

    def __init__(
        self,
        taps: TapSpec,
        num_classes: int,
        norm,
        *,
        channels: int = 512,
        key_channels: int = 256,
        aux_channels: int = 512,
        pools: tuple[int, ...] = (1,),
        dropout: float = 0.05,
    ):
        context = BaseOC(channels, key_channels, channels, norm, pools=pools, dropout=dropout)
        options = {"channels": channels, "aux_channels": aux_channels}
        super().__init__(taps, num_classes, norm, context=context, out_channels=channels, **options)


class BaseOC(nnx.Module):
    """Object context, joined with the pixels and fused: (N, h, w, C) -> (N, h, w, out_channels)."""

    def __init__(self, channels: int, key_channels: int, out_channels: int, norm, *, pools: tuple[int, ...], dropout):
        self.attend = nnx.List(_attention(channels, key_channels, channels, norm, pool) for pool in pools)
        self.fuse = ConvNormAct(2 * channels, out_channels, 1, norm, bias=True)
        self.dropout = ChannelDropout(dropout)

    def __call__(self, pixels: FeatureMap, *, train: bool, rngs: jax.Array | None) -> FeatureMap:
        context, *others = (attention(pixels, train=train) for attention in self.attend)
        for other in others:
            context = context + other
        return self.dropout(self.fuse(concat([context, pixels]), train=train), train=train, rngs=rngs)


def _attention(channels, key_channels, out_channels, norm, pool=1) -> SelfAttention:
    return SelfAttention(channels, key_channels, key_channels, out_channels, norm, bias=True, norm_out=False, pool=pool)


# ---------------------------------------------------------------------------------------------------------------------
# Atrous spatial pyramid


class ASPOCHead(OCNetHead):
    """The head of asp_ocnet. width: channels of each branch; key_channels: of the attention in one of them."""

    def __init__(
        self,
        taps: TapSpec,
        num_classes: int,
        norm,
        *,
        channels: int = 512,
        width: int = 256,
        key_channels: int = 128,
        aux_channels: int = 512,
        dilations: tuple[int, ...] = (12, 24, 36),
        dropout: float = 0.1,
    ):
        context = ASPOC(channels, width, norm, key_channels=key_channels, dilations=dilations, dropout=dropout)
        options = {"channels": channels, "aux_channels": aux_channels}
        super().__init__(taps, num_classes, norm, context=context, out_channels=2 * width, **options)


class ASPOC(nnx.Module):
    """(N, h, w, C) -> (N, h, w, 2 width). Branches: object context at half the resolution, 1x1, three dilated 3x3."""

    def __init__(self, channels: int, width: int, norm, *, key_channels: int, dilations, dropout: float):
        self.pixels = ConvNormAct(channels, width, 3, norm, bias=True)
        self.attend = _attention(width, key_channels, width, norm, pool=2)
        self.context_norm = norm(width)
        self.local = ConvNormAct(channels, width, 1, norm)
        self.atrous = nnx.List(ConvNormAct(channels, width, 3, norm, dilation=dilation) for dilation in dilations)
        self.fuse = ConvNormAct((2 + len(dilations)) * width, 2 * width, 1, norm)
        self.dropout = ChannelDropout(dropout)

    def __call__(self, x: FeatureMap, *, train: bool, rngs: jax.Array | None) -> FeatureMap:
        context = self.attend(self.pixels(x, train=train), train=train)
        context = self.context_norm.activate(self.context_norm(context, train=train))
        branches = [context, *(branch(x, train=train) for branch in (self.local, *self.atrous))]
        return self.dropout(self.fuse(concat(branches), train=train), train=train, rngs=rngs)


# ---------------------------------------------------------------------------------------------------------------------
# Pyramid


class PyramidOCHead(OCNetHead):
    """The head of pyramid_ocnet, which the paper has and the original code lacks. grids: regions per side, by level."""

    def __init__(
        self,
        taps: TapSpec,
        num_classes: int,
        norm,
        *,
        channels: int = 512,
        key_channels: int = 256,
        aux_channels: int = 512,
        grids: tuple[int, ...] = (1, 2, 3, 6),
        dropout: float = 0.05,
    ):
        context = PyramidOC(channels, key_channels, norm, grids=grids, dropout=dropout)
        options = {"channels": channels, "aux_channels": aux_channels}
        super().__init__(taps, num_classes, norm, context=context, out_channels=channels, **options)


class PyramidOC(nnx.Module):
    """(N, h, w, C) -> (N, h, w, C): contexts within regions of several sizes, joined with the widened pixels."""

    def __init__(self, channels: int, key_channels: int, norm, *, grids: tuple[int, ...], dropout: float):
        self.grids = tuple(grids)
        self.attend = nnx.List(_attention(channels, key_channels, channels, norm) for _ in grids)
        self.widen = ConvNormAct(channels, len(grids) * channels, 1, norm, bias=True)
        self.fuse = ConvNormAct(2 * len(grids) * channels, channels, 1, norm, bias=True)
        self.dropout = ChannelDropout(dropout)

    def __call__(self, pixels: FeatureMap, *, train: bool, rngs: jax.Array | None) -> FeatureMap:
        contexts = [
            attention(pixels, train=train, partition=functools.partial(regions, grid=grid))
            for attention, grid in zip(self.attend, self.grids, strict=True)
        ]
        fused = self.fuse(concat([self.widen(pixels, train=train), *contexts]), train=train)
        return self.dropout(fused, train=train, rngs=rngs)


def regions(x: FeatureMap, *, grid: int) -> Partition:
    """Cuts maps into grid x grid regions of floor(size / grid) positions per side; the last ones take the rest."""
    n = x.shape[0]
    size = jnp.asarray(x.shape[1:3])[None] if x.extent is None else x.extent
    places = [_places(size[:, axis], x.shape[1 + axis], grid) for axis in (0, 1)]
    (rows, row_real, row_back), (columns, column_real, column_back) = places
    images, (height, width) = jnp.arange(n)[:, None, None], (rows.shape[2], columns.shape[2])  # of the largest region

    def split(values):
        y = values[images, rows.reshape(-1, grid * height, 1), columns.reshape(-1, 1, grid * width)]
        y = y.reshape(n, grid, height, grid, width, -1).transpose(0, 1, 3, 2, 4, 5)
        return y.reshape(n * grid**2, height * width, -1)

    def join(groups):
        y = groups.reshape(n, grid, grid, height, width, -1).transpose(0, 1, 3, 2, 4, 5)
        y = y.reshape(n, grid * height, grid * width, -1)
        return y[images, row_back[..., None], column_back[:, None]]

    real = row_real[:, :, None, :, None] & column_real[:, None, :, None, :]
    return Partition(split, join, jnp.broadcast_to(real, (n, *real.shape[1:])).reshape(n * grid**2, -1))


def _places(size: jax.Array, canvas: int, grid: int):
    """Returns, along one axis and for true sizes (N,), where each offset of a region lies, and the way back.

    These are positions (N, grid, R), whether they exist, boolean (N, grid, R), and indices (N, canvas) into grid * R.
    """
    longest = canvas // grid + grid - 1
    step = size[:, None] // grid
    start = jnp.arange(grid) * step
    length = jnp.where(jnp.arange(grid) == grid - 1, size[:, None] - (grid - 1) * step, step)
    offset = jnp.arange(longest)
    position = jnp.clip(start[..., None] + offset, 0, canvas - 1)
    every = jnp.arange(canvas)
    region = jnp.where(step > 0, jnp.minimum(every // jnp.maximum(step, 1), grid - 1), grid - 1)
    back = region * longest + jnp.clip(every - region * step, 0, longest - 1)
    return position, offset < length[..., None], back
