"""OCNet: object context by self-attention over pixels (Yuan, Huang, Guo, Zhang, Chen, Wang 2021, arXiv:1809.00916).

The similarities of a pixel to all pixels, its object context map, weigh them in the aggregation (`attend`). There are
three ways to do so: base-OC (in the whole map), pyramid-OC (also in ever smaller regions), and ASP-OC (as one branch
of an atrous spatial pyramid).
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from openseg_jax.models.attention import Partition, SelfAttention
from openseg_jax.models.heads.fcn import PixelClassifier
from openseg_jax.models.layers import ChannelDropout, Conv, ConvNormAct, FeatureMap, concat, norm_act
from openseg_jax.models.segmentor import Head, Taps, TapSpec


class OCNetHead(Head):
    """The frame of these three and of ISA: taps -> {"aux", "out"}: (N, h, w, K) logits. Options as in `OCRHead`."""

    def __init__(self, taps: TapSpec, num_classes: int, norm, context, widths, *, bias=True, aux_dropout=0.0):
        channels, context_channels, aux_channels = widths
        self.aux = PixelClassifier(taps.low.channels, num_classes, norm, aux_channels, aux_dropout, transform_bias=bias)
        self.pixels = ConvNormAct(taps.high.channels, channels, 3, norm, bias=bias)
        self.context = context
        self.classify = Conv(context_channels, num_classes, 1)

    def __call__(self, taps: Taps, *, train: bool, rngs: jax.Array | None = None) -> dict[str, FeatureMap]:
        # The key is split only if both parts drop something.
        aux_rng, rng = (None, rngs) if rngs is None or self.aux.dropout.rate == 0 else jax.random.split(rngs)
        aux = self.aux(taps.low, train=train, rngs=aux_rng)
        pixels = self.pixels(taps.high, train=train)
        context = self.context(pixels, train=train, rngs=rng)
        return {"aux": aux, "out": self.classify(context)}


class BaseOCHead(OCNetHead):
    """The head of base_ocnet.

    Args:
        pools: There is one attention for each, on maps max-pooled by this factor; their contexts are added.
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
        super().__init__(taps, num_classes, norm, context, (channels, channels, aux_channels))


class BaseOC(nnx.Module):
    """Object context, joined with the pixels and fused: (N, h, w, C) -> (N, h, w, out_channels)."""

    def __init__(self, channels: int, key_channels: int, out_channels: int, norm, *, pools: tuple[int, ...], dropout):
        sizes = channels, key_channels, key_channels, channels
        self.attend = nnx.List(SelfAttention(*sizes, norm, pool=pool) for pool in pools)
        self.fuse = ConvNormAct(2 * channels, out_channels, 1, norm, bias=True)
        self.dropout = ChannelDropout(dropout)

    def __call__(self, pixels: FeatureMap, *, train: bool, rngs: jax.Array | None) -> FeatureMap:
        context, *others = (attention(pixels, train=train) for attention in self.attend)
        for other in others:
            context = context + other
        return self.dropout(self.fuse(concat([context, pixels]), train=train), train=train, rngs=rngs)


class ASPOCHead(OCNetHead):
    """The head of asp_ocnet.

    Args:
        width: The channels of each branch of the pyramid, one of which is the context.
        dilations: Those of the 3x3 convolutions that are other branches.
    """

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
        super().__init__(taps, num_classes, norm, context, (channels, 2 * width, aux_channels))


class ASPOC(nnx.Module):
    """(N, h, w, C) -> (N, h, w, 2 width). Branches: object context at half the resolution, 1x1, three dilated 3x3."""

    def __init__(self, channels: int, width: int, norm, *, key_channels: int, dilations, dropout: float):
        self.pixels = ConvNormAct(channels, width, 3, norm, bias=True)
        self.attend = SelfAttention(width, key_channels, key_channels, width, norm, pool=2)
        self.context_norm = norm(width)
        self.local = ConvNormAct(channels, width, 1, norm)
        self.atrous = nnx.List(ConvNormAct(channels, width, 3, norm, dilation=dilation) for dilation in dilations)
        self.fuse = ConvNormAct((2 + len(dilations)) * width, 2 * width, 1, norm)
        self.dropout = ChannelDropout(dropout)

    def __call__(self, x: FeatureMap, *, train: bool, rngs: jax.Array | None) -> FeatureMap:
        context = self.attend(self.pixels(x, train=train), train=train)
        context = norm_act(self.context_norm, context, train=train, then=self.context_norm.activation)
        branches = [context, *(branch(x, train=train) for branch in (self.local, *self.atrous))]
        return self.dropout(self.fuse(concat(branches), train=train), train=train, rngs=rngs)


class PyramidOCHead(OCNetHead):
    """The head of pyramid_ocnet, which the paper has and the original code lacks.

    Args:
        grids: The regions per side, by level of the pyramid.
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
        grids: tuple[int, ...] = (1, 2, 3, 6),
        dropout: float = 0.05,
    ):
        context = PyramidOC(channels, key_channels, norm, grids=grids, dropout=dropout)
        super().__init__(taps, num_classes, norm, context, (channels, channels, aux_channels))


class PyramidOC(nnx.Module):
    """(N, h, w, C) -> (N, h, w, C): contexts within regions of several sizes, joined with the widened pixels."""

    def __init__(self, channels: int, key_channels: int, norm, *, grids: tuple[int, ...], dropout: float):
        self.grids = tuple(grids)
        self.attend = nnx.List(SelfAttention(channels, key_channels, key_channels, channels, norm) for _ in grids)
        self.widen = ConvNormAct(channels, len(grids) * channels, 1, norm, bias=True)
        self.fuse = ConvNormAct(2 * len(grids) * channels, channels, 1, norm, bias=True)
        self.dropout = ChannelDropout(dropout)

    def __call__(self, pixels: FeatureMap, *, train: bool, rngs: jax.Array | None) -> FeatureMap:
        pairs = zip(self.attend, (functools.partial(regions, grid=grid) for grid in self.grids), strict=True)
        contexts = [attention(pixels, train=train, partition=partition) for attention, partition in pairs]
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
