"""Attention between positions, in memory that does not grow with the square of their number."""

import jax
import jax.numpy as jnp

# The most float32 affinities at a time, 128 MiB; more positions are done in parts.
MAX_AFFINITIES = 2**25


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    real: jax.Array | None = None,
    max_affinities: int = MAX_AFFINITIES,
) -> jax.Array:
    """Computes softmax(query key^T / sqrt(C)) value, with affinities and softmax in float32.

    If B * Q * L exceeds max_affinities, parts of the queries are done one after the other and rematerialised in the
    backward pass. The result does not depend on it.

    Args:
        query: (B, Q, C).
        key: (B, L, C).
        value: (B, L, D).
        real: Boolean (B, L), which keys exist. A row without any gets finite values that mean nothing.
        max_affinities: How many affinities may exist at a time.

    Returns:
        (B, Q, D), the mean of the values weighted by the affinities.
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
