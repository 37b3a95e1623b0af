"""Interpolation with the exact rules of torch and OpenCV, for feature maps of one size or of one size per image.

Each rule says, for every output position along one axis, which input positions it reads and with which weights
(its *taps*). One function applies taps of any rule. `jax.image.resize` follows none of these rules: it has no
align_corners, filters when shrinking, and its cubic kernel is a = -0.5.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax.models.layers import Canvas, FeatureMap


def bilinear(x: FeatureMap, *, to: Canvas, align_corners: bool = True) -> FeatureMap:
    """Resizes as torch.nn.functional.interpolate(mode="bilinear") does, to the size and the extent of a canvas."""
    return _resize(x, to, functools.partial(bilinear_taps, align_corners=align_corners))


def cubic(x: FeatureMap, *, to: Canvas) -> FeatureMap:
    """Resizes floats as cv2.INTER_CUBIC does: a = -0.75, the border is replicated, and nothing is filtered."""
    return _resize(x, to, cubic_taps)


def cubic_part(x: FeatureMap, *, to: Canvas, axis: int, start: jax.Array, count: int) -> FeatureMap:
    """Returns rows (axis 1) or columns (axis 2) start to start + count of `x` resized along this axis as by `cubic`."""
    n_in, n_out = (_true_sizes(canvas, x.shape[0], axis) for canvas in (x.canvas, to))
    indices, weights = cubic_taps(start + jnp.arange(count)[None], n_in, n_out)
    values = _interpolate_each(x.values, indices, weights, axis)
    part, other = jnp.clip(n_out - start, 0, count), _true_sizes(x.canvas, x.shape[0], 3 - axis)
    return FeatureMap(values, jnp.concatenate([part, other] if axis == 1 else [other, part], axis=1)).zero_outside()


def nearest(x: FeatureMap, *, to: Canvas) -> FeatureMap:
    """Resizes as torch.nn.functional.interpolate(mode="nearest") does."""
    return _resize(x, to, nearest_taps)


def _resize(x: FeatureMap, to: Canvas, rule) -> FeatureMap:
    values = x.values
    dtype = np.promote_types(np.float32, values.dtype) if values.dtype != jnp.bfloat16 else np.float32
    for axis, n_out in ((1, to.height), (2, to.width)):
        if x.extent is None and to.extent is None:
            if x.shape[axis] == n_out:  # every rule is then the identity
                continue
            indices, weights = rule(np.arange(n_out, dtype=dtype), x.shape[axis], n_out)
            if _is_local(indices, weights, x.shape[axis]):
                values = _from_neighbours(values, indices, weights, axis)
                continue
        else:
            sizes = [_true_sizes(canvas, x.shape[0], axis) for canvas in (x.canvas, to)]
            indices, weights = rule(jnp.arange(n_out)[None], *sizes)
        apply = _interpolate_each if indices.ndim == 3 else interpolate
        values = apply(values, indices, weights, axis)
    return FeatureMap(values, to.extent, to.mask).zero_outside()


def _true_sizes(canvas: Canvas, n: int, axis: int) -> jax.Array:
    """Returns the true sizes (N, 1) of n maps along `axis`."""
    return jnp.full((n, 1), canvas[axis - 1]) if canvas.extent is None else canvas.extent[:, axis - 1, None]


# ---------------------------------------------------------------------------------------------------------------------
# Rules. position: (O,) output positions; n_in, n_out: sizes, as numbers or, with positions (1, O), as (N, 1) arrays.
# Each returns (indices, weights), both of shape (taps, O) or (taps, N, O). numpy in, numpy out; in float64 if the
# positions are, otherwise in float32, whose rounding is part of the rules.


def bilinear_taps(position, n_in, n_out, *, align_corners: bool):
    xp = jnp if isinstance(n_in, jax.Array) else np
    position = _floats(position)
    if align_corners:
        source = position * ((n_in - 1) / xp.maximum(n_out - 1, 1)).astype(position.dtype)
    else:
        source = xp.maximum((position + np.float32(0.5)) * n_in / n_out - np.float32(0.5), 0)
    low = xp.minimum(xp.floor(source), n_in - 1)
    high = xp.minimum(low + 1, n_in - 1)
    fraction = xp.minimum(source - low, 1)
    return _taps(xp, [low, high], [1 - fraction, fraction], n_in)


def nearest_taps(position, n_in, n_out):
    # The ratio and the product are rounded to float32 as in torch: for some sizes (28 -> 92) the product then falls
    # just below an integer, and the index is one less than that of integer arithmetic.
    xp = jnp if isinstance(n_in, jax.Array) else np
    position, floats_in, floats_out = (xp.asarray(n).astype(np.float32) for n in (position, n_in, n_out))
    source = xp.floor(position * (floats_in / floats_out))
    return _taps(xp, [source], [xp.ones_like(source)], n_in)


def cubic_taps(position, n_in, n_out):
    xp = jnp if isinstance(n_in, jax.Array) else np
    source = (_floats(position) + np.float32(0.5)) * n_in / n_out - np.float32(0.5)
    low = xp.floor(source)
    t, a = source - low, np.float32(-0.75)
    outer = lambda d: ((a * d - 5 * a) * d + 8 * a) * d - 4 * a  # noqa: E731  1 <= distance d < 2
    inner = lambda d: ((a + 2) * d - (a + 3)) * d * d + 1  # noqa: E731  distance d < 1
    weights = [outer(t + 1), inner(t), inner(1 - t)]
    weights.append(1 - weights[0] - weights[1] - weights[2])
    return _taps(xp, [low - 1, low, low + 1, low + 2], weights, n_in)


def _floats(position):
    return position if position.dtype == np.float64 else position.astype(np.float32)


def _taps(xp, indices, weights, n_in):
    indices = xp.clip(xp.stack(indices), 0, n_in - 1).astype(np.int32)
    weights = xp.stack(weights)
    return indices, weights if weights.dtype == np.float64 else weights.astype(np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# Applying them

_SMALL = 128  # positions of maps that are resized by a matrix product


def _is_local(indices: np.ndarray, weights: np.ndarray, n_in: int) -> bool:
    """Says whether a map is enlarged f times, and outputs f*i to f*i + f - 1 read inputs i - 1 to i + 1 only."""
    factor, rest = divmod(indices.shape[1], n_in)
    if rest or factor < 2:
        return False
    distance = indices - np.arange(indices.shape[1]) // factor
    return bool((abs(distance)[weights != 0] <= 1).all())


def _from_neighbours(x: jax.Array, indices: np.ndarray, weights: np.ndarray, axis: int) -> jax.Array:
    """Does what `interpolate` does for local taps, as a weighted sum of the map and itself shifted by one.

    Neither it nor its gradient has an index. When the rows of a map are spread over devices, a device therefore needs
    one row of each neighbour, where a gather would bring it the whole map.
    """
    n_in, wide = x.shape[axis], jnp.promote_types(x.dtype, jnp.float32)
    factor = indices.shape[1] // n_in
    distance = indices - np.arange(indices.shape[1]) // factor
    shape = [1] * (x.ndim + 1)
    shape[axis], shape[axis + 1] = n_in, factor
    total: Any = 0
    for d in (-1, 0, 1):
        share = (weights * (distance == d)).sum(0).reshape(shape)
        if share.any():
            total = total + jnp.expand_dims(_shifted(x, d, axis).astype(wide), axis + 1) * share
    return total.reshape(*x.shape[:axis], n_in * factor, *x.shape[axis + 1 :]).astype(x.dtype)


def _shifted(x: jax.Array, by: int, axis: int) -> jax.Array:
    """Puts x[i + by] at i along the axis, and 0 beyond the ends."""
    pads = [(0, 0, 0)] * x.ndim
    pads[axis] = (-by, by, 0)
    return jax.lax.pad(x, jnp.zeros((), x.dtype), pads) if by else x


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def interpolate(x: jax.Array, indices, weights, axis: int) -> jax.Array:
    """Sums weights * x[indices] over taps along `axis`, in at least float32, and returns the dtype of x.

    x: (N, H, W, C); indices, weights: (taps, O), or (taps, N, O) for one set per image.
    Forward gathers; backward multiplies with the transposed matrix, because the transpose of a gather is a
    scatter-add, which is slow on every backend (on CPU 40 ms against 8 ms for 16x32 -> 128x256).
    """
    total: Any = 0
    wide, places = jnp.promote_types(x.dtype, jnp.float32), (-1, 1, 1) if axis == 1 else (1, -1, 1)
    for index, weight in zip(indices, weights, strict=True):
        if index.ndim == 1:
            images, taken = 1, jnp.take(x, index, axis=axis, mode="clip")
        else:
            images, taken = x.shape[0], jax.vmap(lambda m, i: jnp.take(m, i, axis=axis - 1, mode="clip"))(x, index)
        total = total + taken.astype(wide) * jnp.reshape(weight, (images, *places))
    return total.astype(x.dtype)


def _interpolate_each(x: jax.Array, indices: jax.Array, weights: jax.Array, axis: int) -> jax.Array:
    """Interpolates with taps (taps, N, O) for each image.

    Small maps are multiplied with a matrix: as fast as gathering, and XLA compiles a whole HRNet in a third less time.
    """
    if x.shape[axis] > _SMALL:
        return interpolate(x, indices, weights, axis)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    equation = "nihc,noi->nohc" if axis == 1 else "nhic,noi->nhoc"
    return jnp.einsum(equation, wide, _matrix(indices, weights, x.shape[axis]), precision="highest").astype(x.dtype)


def _matrix(indices: jax.Array, weights: jax.Array, n_in: int) -> jax.Array:
    """Returns the weight of each input for each output, (..., O, I)."""
    return jnp.sum(jax.nn.one_hot(indices, n_in, dtype=weights.dtype) * weights[..., None], axis=0)


def _interpolate_forward(x, indices, weights, axis):
    return interpolate(x, indices, weights, axis), (indices, weights, jnp.empty((0, x.shape[axis]), x.dtype))


def _interpolate_backward(axis, residuals, gradient):
    indices, weights, like = residuals
    matrix = _matrix(indices, weights, like.shape[1]).astype(like.dtype)
    equation = "nohc,{}oi->nihc" if axis == 1 else "nhoc,{}oi->nhic"
    equation = equation.format("n" if matrix.ndim == 3 else "")
    return jnp.einsum(equation, gradient, matrix, precision="highest"), None, None


interpolate.defvjp(_interpolate_forward, _interpolate_backward)
