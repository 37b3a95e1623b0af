"""Attention between positions, in memory that does not grow with the square of their number."""

from __future__ import annotations

import jax
import jax.numpy as jnp

# How many float32 affinities exist at a time, 128 MiB; more positions are done in parts.
MAX_AFFINITIES = 2**25


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    real: jax.Array | None = None,
    max_affinities: int = MAX_AFFINITIES,
) -> jax.Array:
    """softmax(query key^T / sqrt(C)) value, for (B, Q, C), (B, L, C), (B, L, D) -> (B, Q, D).

    real: boolean (B, L), which keys exist; what a row without any gets means nothing, but is finite.
    Affinities and softmax are float32.
    The result does not depend on max_affinities: if all B * Q * L exceed it, parts of the queries are done one after
    the other, and once more in the backward pass, which then keeps no affinities either.
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
