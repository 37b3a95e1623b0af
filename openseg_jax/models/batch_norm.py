"""Batch normalisation that on a GPU reads its map once to find the moments, and once for the sums of its gradient.

Written plainly, and differentiated by JAX, the mean and the variance take one pass each, and their derivatives several
more. This one keeps for the backward pass only its input, in the dtype that it came in.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from openseg_jax.models import backend

# A GPU takes one kernel for sums of at most _MOST positions, and is busy with _SUMS of them.
_MOST, _SUMS = 4096, 64


class Moments(NamedTuple):
    """Of the real values of each channel. The mean is origin + shift, which differ too much for a sum in float32.

    Attributes:
        origin: (C,), a value of the map, or nearly the mean.
        shift: (C,).
        var: (C,), the biased variance.
        count: (), the number of values.
    """

    origin: jax.Array
    shift: jax.Array
    var: jax.Array
    count: jax.Array | int

    @property
    def mean(self) -> jax.Array:
        return self.origin + self.shift


def moments(x: jax.Array, inside: jax.Array | None = None, extent: jax.Array | None = None) -> Moments:
    """Returns the moments of the channels of (N, H, W, C), in at least float32, on a GPU from one pass over the map.

    E[x^2] - E[x]^2 loses the variance of a channel whose mean is large. Here the sums are of x - pivot, where the pivot
    is a value of the map, or its mean on a CPU. Each device has one of its own, and what the devices found is combined
    about the mean of the first one (Chan, Golub, LeVeque 1983).

    inside, extent: Of a `FeatureMap`; with them, each image has a pivot of its own.
    """
    own = backend.current()
    if extent is None:
        parts = _divided(x)
        if own.takes_two_passes:
            pivot = jnp.mean(parts, axis=(1, 3, 4, 5), keepdims=True)
        else:
            middle = tuple(slice(side // 2, side // 2 + 1) for side in parts.shape[3:6])
            pivot = parts[(slice(None), slice(0, 1), slice(None), *middle)]
        count = jnp.full((*parts.shape[:3:2], 1), parts[0, :, 0, ..., 0].size, parts.dtype)
        deviation = parts - pivot
    else:
        parts = _wide(x)[:, None, None, None]
        pivot = jax.vmap(lambda image, at: image[:, :, :, at[0], at[1]])(parts, extent // 2)[..., None, None, :]
        count = jnp.maximum(jnp.prod(extent, axis=1), 1).astype(parts.dtype)[:, None, None]
        deviation = jnp.where(inside[:, None, None, None], parts - pivot, 0)
    maps = deviation, deviation * deviation
    sums = _sums(_sums(maps, (4, 5)), (1, 3)) if own.joins_sums else _sums(maps, (1, 3, 4, 5))
    return _combined(*map(own.everywhere, (pivot[:, 0, :, 0, 0, 0], *sums, count)))


def _combined(pivot: jax.Array, first: jax.Array, second: jax.Array, count: jax.Array) -> Moments:
    """Combines the pivots of parts, and the sums of what values deviate from them, and of their squares: (D, S, C)."""
    shift = first / count
    if count.size == 1:
        return Moments(pivot[0, 0], shift[0, 0], jnp.maximum(second / count - shift * shift, 0)[0, 0], count[0, 0, 0])
    squares = second - first * shift  # of what values deviate from the mean of their part
    apart, total = pivot - pivot[0, 0] + shift, jnp.sum(count)
    first, second = _sums((count * apart, squares + count * apart * apart), (0, 1))
    shift = first / total
    return Moments(pivot[0, 0], shift, jnp.maximum(second / total - shift * shift, 0), total)


def _divided(x: jax.Array) -> jax.Array:
    """Divides (N, H, W, C) into what each device has, and its rows into blocks: (D, n, S, blocks, h, W, C), wide."""
    n, height, width, channels = x.shape
    data, spatial = (math.gcd(*pair) for pair in zip((n, height), backend.current().shape, strict=True))
    rows = height // spatial
    least = min(max(-(-rows * width // _MOST), -(-_SUMS // n)), rows) if backend.current().joins_sums else 1
    blocks = next(count for count in range(least, rows + 1) if rows % count == 0)
    return _wide(x).reshape(data, n // data, spatial, blocks, rows // blocks, width, channels)


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _sums(maps: Sequence[jax.Array], axes: tuple[int, ...]) -> Sequence[jax.Array]:
    """Returns the sums of each map over the axes."""
    if not backend.current().joins_sums:
        return [jnp.sum(x, axis=axes) for x in maps]
    zeros = [jnp.zeros((), x.dtype) for x in maps]
    return jax.lax.reduce(tuple(maps), tuple(zeros), lambda a, b: tuple(map(jnp.add, a, b)), axes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def batch_norm(
    x: jax.Array,
    gain: jax.Array,
    bias: jax.Array,
    inside: jax.Array | None,
    extent: jax.Array | None,
    epsilon: float,
    slope: float,
) -> tuple[jax.Array, Moments]:
    """Normalises (N, H, W, C) by its own moments, and returns it in its dtype with these moments.

    The result is not set to zero beyond the extent, and nothing is differentiated through the moments that are
    returned.

    Args:
        x: Values that are zero beyond the extent.
        gain: (C,).
        bias: (C,).
        inside: That of a `FeatureMap`.
        extent: That of a `FeatureMap`.
        epsilon: It is added to the variance.
        slope: That of a leaky ReLU that follows, 0 for a ReLU, 1 for none. The backward pass finds its sign by
            computing it again from the input, and so has no need to read the result.
    """
    return _forward(x, gain, bias, inside, extent, epsilon, slope)[0]


def _forward(x, gain, bias, inside, extent, epsilon, slope):
    found = moments(x, inside, extent)
    inverse = jax.lax.rsqrt(found.var + epsilon)
    y = (_wide(x) - found.origin - found.shift) * (inverse * gain) + bias
    y = y if slope == 1 else jnp.maximum(y, slope * y)
    return (y.astype(x.dtype), found), (x, gain, bias, inside, found, inverse)


def _backward(epsilon, slope, residuals, cotangents):
    x, gain, bias, inside, found, inverse = residuals
    dy, normalised = _wide(cotangents[0]), (_wide(x) - found.origin - found.shift) * inverse
    if slope != 1:
        # So little that XLA computes it again in each kernel: of more it stores the signs, for the whole forward pass.
        factor = inverse * gain
        dy = jnp.where(_wide(x) * factor > factor * found.mean - bias, dy, slope * dy)
    if inside is not None:
        dy = jnp.where(inside, dy, 0)
    of_bias, of_gain = _sums((dy, dy * normalised), (0, 1, 2))
    dx = (inverse * gain) * (dy - (of_bias + normalised * of_gain) / found.count)
    if inside is not None:
        dx = jnp.where(inside, dx, 0)
    return dx.astype(x.dtype), of_gain.astype(gain.dtype), of_bias.astype(gain.dtype), None, None


batch_norm.defvjp(_forward, _backward)
