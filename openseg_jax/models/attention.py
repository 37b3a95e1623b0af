"""Attention of pixels to pixels, which OCNet and ISA are made of, in memory that grows linearly with their number."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from openseg_jax.models import resize
from openseg_jax.models.layers import Conv, ConvNormAct, FeatureMap, chain
from openseg_jax.models.pooling import max_pool

# The most float32 affinities at a time, 128 MiB; more positions are done in parts.
MAX_AFFINITIES = 2**25


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, *, real: jax.Array | None = None, max_affinities=MAX_AFFINITIES
) -> jax.Array:
    """Computes softmax(query key^T / sqrt(C)) value: query (B, Q, C), key (B, L, C), value (B, L, D) -> (B, Q, D).

    Affinities and softmax are float32. If B * Q * L exceeds max_affinities, parts of the queries are done one after the
    other and rematerialised in the backward pass; the result does not depend on it. real: boolean (B, L), which keys
    exist. A row without any gets finite values that mean nothing.
    """
    batch, queries, channels = query.shape
    wide = jnp.promote_types(query.dtype, jnp.float32)

    def part(query: jax.Array) -> jax.Array:
        affinity = jnp.einsum("bqc,blc->bql", query, key, preferred_element_type=wide) * channels**-0.5
        if real is not None:
            affinity = jnp.where(real[:, None], affinity, jnp.finfo(wide).min)
        return jnp.einsum("bql,bld->bqd", jax.nn.softmax(affinity, axis=-1).astype(value.dtype), value)

    parts = -(-batch * queries * key.shape[1] // max_affinities)
    if parts <= 1:
        return part(query)
    size = -(-queries // parts)
    parts = -(-queries // size)
    padded = jnp.pad(query, ((0, 0), (0, parts * size - queries), (0, 0)))
    split = padded.reshape(batch, parts, size, channels).swapaxes(0, 1)
    context = jax.lax.map(jax.checkpoint(part), split).swapaxes(0, 1)
    return context.reshape(batch, parts * size, -1)[:, :queries]


class Partition(NamedTuple):
    """A way to cut maps into groups of positions that attend to each other only."""

    split: Callable[[jax.Array], jax.Array]  # (N, H, W, C) -> (groups, positions, C)
    join: Callable[[jax.Array], jax.Array]  # back again
    real: jax.Array | None = None  # boolean (groups, positions), the positions that exist; None means all


def whole_map(x: FeatureMap) -> Partition:
    """Lets every position of an image attend to every other one."""
    n, height, width, _ = x.shape
    return Partition(
        split=lambda values: values.reshape(n, height * width, -1),
        join=lambda values: values.reshape(n, height, width, -1),
        real=None if x.extent is None else x.inside.reshape(n, height * width),
    )


class SelfAttention(nnx.Module):
    """(N, h, w, C) -> (N, h, w, out_channels): the context of each pixel within its group of a partition.

    Keys and queries pass two 1x1 convolutions each, the value one.
    norm_out: a norm and activation follow the last convolution, and the others have no bias, as in ISA. Otherwise the
    last one starts at zero, so that the context enters gradually, as in OCNet.
    pool: attend on maps max-pooled by this factor, and upsample the context.
    """

    def __init__(
        self, in_channels, key_channels, value_channels, out_channels, norm, *, norm_out: bool = False, pool: int = 1
    ):
        def two_layers():
            return nnx.List(ConvNormAct(c, key_channels, 1, norm, bias=bias) for c in (in_channels, key_channels))

        bias = not norm_out
        self.pool = pool
        self.key, self.query = two_layers(), two_layers()
        self.value = Conv(in_channels, value_channels, 1, bias=bias)
        if norm_out:
            self.project = ConvNormAct(value_channels, out_channels, 1, norm)
        else:
            self.project = Conv(value_channels, out_channels, 1, zero=True)

    def __call__(self, x: FeatureMap, *, train: bool, partition: Callable = whole_map) -> FeatureMap:
        pooled = max_pool(x, self.pool, stride=self.pool) if self.pool > 1 else x
        groups = partition(pooled)
        key, query = chain(self.key, pooled, train=train), chain(self.query, pooled, train=train)
        value = self.value(pooled)
        context = attend(*(groups.split(y.values) for y in (query, key, value)), real=groups.real)
        context = pooled.replace(groups.join(context)).zero_outside()
        context = self.project(context, train=train) if isinstance(self.project, ConvNormAct) else self.project(context)
        return resize.bilinear(context, to=x.canvas) if self.pool > 1 else context
