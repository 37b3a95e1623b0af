"""Pooling with torch's rules on feature maps. Windows that reach beyond the true border see padding there."""

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax.models.layers import FeatureMap


def max_pool(x: FeatureMap, kernel: int, *, stride: int, padding: int = 0, ceil_mode: bool = False) -> FeatureMap:
    """Pools as torch.nn.MaxPool2d does. In ceil_mode a partial window counts if it starts in the image or padding."""
    window, lowest = (kernel, stride, padding, ceil_mode), np.array(-np.inf, x.values.dtype)
    y = _reduce_windows(x.filled_outside(lowest), lowest, jax.lax.max, *window)
    return FeatureMap(y, _pooled(x.extent, *window)).zero_outside()


def avg_pool(
    x: FeatureMap, kernel: int, *, stride: int, padding=0, ceil_mode=False, count_include_pad=True
) -> FeatureMap:
    """Pools as torch.nn.AvgPool2d does.

    count_include_pad decides whether sums are divided by kernel^2 everywhere or by the real positions in the window.
    No net here needs torch's mixed rule for ceil_mode with count_include_pad and padding.
    """
    if kernel == stride == 1:
        return x
    window, zero, count = (kernel, stride, padding, ceil_mode), np.zeros((), x.values.dtype), kernel**2
    total = _reduce_windows(x.values, zero, jax.lax.add, *window)
    if not count_include_pad:
        real = jnp.broadcast_to(x.inside, (*x.shape[:3], 1)).astype(x.values.dtype)
        count = jnp.maximum(_reduce_windows(real, zero, jax.lax.add, *window), 1)
    return FeatureMap(total / count, _pooled(x.extent, *window)).zero_outside()


def global_avg_pool(x: FeatureMap) -> FeatureMap:
    """Takes the mean over the real positions of each image: (N, H, W, C) -> (N, 1, 1, C), without extents."""
    count = x.shape[1] * x.shape[2] if x.extent is None else jnp.prod(x.extent, axis=1)[:, None, None, None]
    total = jnp.sum(x.values, axis=(1, 2), keepdims=True, dtype=jnp.promote_types(x.values.dtype, jnp.float32))
    return FeatureMap((total / count).astype(x.values.dtype))


def _pooled(size, kernel, stride, padding, ceil_mode):
    """Returns the size after pooling, for a number or an array of numbers."""
    if size is None:
        return None
    out = (size + 2 * padding - kernel + (stride - 1 if ceil_mode else 0)) // stride + 1
    return out - ((out - 1) * stride >= size + padding) if ceil_mode else out


def _reduce_windows(values, start, operation, kernel, stride, padding, ceil_mode):
    """Reduces windows; `start` must be a number that JAX knows while it traces, or there is no gradient."""

    def pads(size):
        out = _pooled(size, kernel, stride, padding, ceil_mode)
        return padding, max((out - 1) * stride + kernel - size - padding, 0)

    return jax.lax.reduce_window(
        values,
        start,
        operation,
        window_dimensions=(1, kernel, kernel, 1),
        window_strides=(1, stride, stride, 1),
        padding=[(0, 0), pads(values.shape[1]), pads(values.shape[2]), (0, 0)],
    )
