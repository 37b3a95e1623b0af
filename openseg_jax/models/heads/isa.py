"""Interlaced sparse self-attention (Huang, Yuan et al. 2019, arXiv:1907.12273).

The paper factorises the dense matrix of affinities into two sparse ones, of two attentions in a row. A map is cut into
a grid of blocks of dh x dw pixels:

    long-range attention:  pixels at the same place of different blocks attend to each other
    short-range attention: pixels of the same block attend to each other
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from openseg_jax.models.attention import Partition, SelfAttention
from openseg_jax.models.heads.ocnet import OCNetHead
from openseg_jax.models.layers import Canvas, ChannelDropout, ConvNormAct, FeatureMap, concat
from openseg_jax.models.segmentor import TapSpec


def pad_to_blocks(x: FeatureMap, factors: tuple[int, int]) -> FeatureMap:
    """Puts zeros around each map, so that its true size divides by the factors; the smaller half above and on the left.

    These zeros are part of the map from here on: in the original they attend and are attended to.
    """
    values = _moved(x.values, _before(x.canvas, factors), _whole_blocks(np.array(x.shape[1:3]), factors))
    return FeatureMap(values, None if x.extent is None else _whole_blocks(x.extent, factors))


def remove_padding(y: FeatureMap, factors: tuple[int, int], to: Canvas) -> FeatureMap:
    """Undoes `pad_to_blocks` of a map that had this canvas."""
    return FeatureMap(_moved(y.values, -_before(to, factors), (to.height, to.width)), to.extent, to.mask).zero_outside()


def _whole_blocks(size, factors):
    return -(-size // np.array(factors)) * np.array(factors)


def _before(canvas: Canvas, factors):
    """Returns the rows above and columns on the left: (2,), or (N, 2) where the sizes differ."""
    size = np.array(canvas[:2]) if canvas.extent is None else canvas.extent
    return (_whole_blocks(size, factors) - size) // 2


def _moved(values: jax.Array, offset, size) -> jax.Array:
    """Moves values (N, H, W, C) down and right by offset onto a canvas of `size`, which is zero elsewhere."""
    if isinstance(offset, np.ndarray):
        edges = [(int(o), int(to - o - have), 0) for o, to, have in zip(offset, size, values.shape[1:3], strict=True)]
        return jax.lax.pad(values, jnp.zeros((), values.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    for axis in (1, 2):
        source = jnp.arange(int(size[axis - 1])) - offset[:, axis - 1, None]
        source = jnp.where(source < 0, values.shape[axis], source)  # negative indices would count from the end
        take = functools.partial(jnp.take, axis=axis - 1, mode="fill", fill_value=0)
        values = jax.vmap(take)(values, source)
    return values


def long_range(x: FeatureMap, *, factors: tuple[int, int]) -> Partition:
    """Groups positions by their place within the block: dh * dw groups."""
    return _cut(x, factors, (0, 2, 4, 1, 3))


def short_range(x: FeatureMap, *, factors: tuple[int, int]) -> Partition:
    """Groups the positions of each block: as many groups as there are blocks."""
    return _cut(x, factors, (0, 1, 3, 2, 4))


def _cut(x: FeatureMap, factors: tuple[int, int], order: tuple[int, ...]) -> Partition:
    """Cuts by an order of the axes image, block row, row, block column, column; the last two make up a group."""
    n, height, width, _ = x.shape
    blocks = (n, height // factors[0], factors[0], width // factors[1], factors[1])
    ordered = [blocks[axis] for axis in order]
    back = np.argsort((*order, 5))

    def split(values):
        channels = values.shape[-1]
        return values.reshape(*blocks, channels).transpose(*order, 5).reshape(-1, ordered[3] * ordered[4], channels)

    def join(groups):
        return groups.reshape(*ordered, -1).transpose(back).reshape(n, height, width, -1)

    return Partition(split, join, real=None if x.extent is None else split(x.inside)[..., 0])


class InterlacedAttention(nnx.Module):
    """Long-range attention, then short-range attention: (N, h, w, C) -> (N, h, w, out_channels)."""

    def __init__(self, in_channels, key_channels, value_channels, out_channels, norm, *, factors: tuple[int, int]):
        self.factors = factors
        sizes = key_channels, value_channels, out_channels
        self.long_range = SelfAttention(in_channels, *sizes, norm, norm_out=True)
        self.short_range = SelfAttention(out_channels, *sizes, norm, norm_out=True)

    def __call__(self, x: FeatureMap, *, train: bool) -> FeatureMap:
        y = pad_to_blocks(x, self.factors)
        y = self.long_range(y, train=train, partition=functools.partial(long_range, factors=self.factors))
        y = self.short_range(y, train=train, partition=functools.partial(short_range, factors=self.factors))
        return remove_padding(y, self.factors, to=x.canvas)


class ISAModule(nnx.Module):
    """Interlaced attention for each factor pair, joined with the pixels and fused."""

    def __init__(self, channels, key_channels, value_channels, out_channels, norm, *, factors, dropout):
        sizes = channels, key_channels, value_channels, out_channels
        self.attend = nnx.List(InterlacedAttention(*sizes, norm, factors=pair) for pair in factors)
        joined = len(factors) * out_channels
        # With several contexts the pixels are widened, to weigh as much as all of them.
        self.widen = ConvNormAct(channels, joined, 1, norm) if len(factors) > 1 else None
        self.fuse = ConvNormAct((joined if self.widen else channels) + joined, out_channels, 1, norm)
        self.dropout = ChannelDropout(dropout)

    def __call__(self, pixels: FeatureMap, *, train: bool, rngs: jax.Array | None) -> FeatureMap:
        contexts = [attention(pixels, train=train) for attention in self.attend]
        if self.widen is not None:
            pixels = self.widen(pixels, train=train)
        return self.dropout(self.fuse(concat([pixels, *contexts]), train=train), train=train, rngs=rngs)


class ISAHead(OCNetHead):
    """taps -> {"aux", "out"}: (N, h, w, K) logits. Options as in `OCRHead`.

    Args:
        factors: One pair (dh, dw) or several, the sizes of the blocks.
    """

    def __init__(
        self,
        taps: TapSpec,
        num_classes: int,
        norm,
        *,
        factors: tuple[tuple[int, int], ...] = ((8, 8),),
        channels: int = 512,
        key_channels: int = 256,
        aux_channels: int = 512,
        dropout: float = 0.05,
    ):
        if not factors or not all(isinstance(f, tuple) and len(f) == 2 and min(f) >= 1 for f in factors):
            raise ValueError(f"factors must be pairs of block height and width, such as [[8, 8]], found {factors!r}")
        context = ISAModule(channels, key_channels, channels, channels, norm, factors=factors, dropout=dropout)
        widths = channels, channels, aux_channels
        super().__init__(taps, num_classes, norm, context, widths, bias=False, aux_dropout=dropout)
