"""Refinement of label maps by offsets: each pixel near a boundary takes the label of an interior pixel.

Yuan, Xie, Chen and Wang, "SegFix: Model-Agnostic Boundary Refinement for Segmentation", ECCV 2020, arXiv:2007.04269.
"""

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax.errors import InputError


def refine(
    labels: jax.Array | np.ndarray,
    offsets: jax.Array | np.ndarray,
    *,
    scale: int = 2,
    iterations: int = 1,
    void: int | None = None,
    sizes: jax.Array | np.ndarray | None = None,
) -> jax.Array:
    """Replaces the label of each pixel (y, x) by the one at (y, x) + scale * offset, or at the border before it.

    Labels are moved and never computed with, so they may be train ids, ids on disk, instance ids or masks.

    Args:
        labels: Integers of at most 32 bits or booleans, (H, W) or (N, H, W).
        offsets: Integers, (H, W, 2) or (N, H, W, 2): (down, right) in pixels.
        scale: Multiplies the offsets; the original takes 2 for label maps and 1 for instance masks.
        iterations: How often to refine, each time from the previous result.
        void: The label whose pixels stay void, and which no other pixel takes. By default, and in the original, 255
            moves like any label.
        sizes: int (N, 2), the (height, width) of each map in a padded batch. Its border lies there; what the result
            holds beyond it is undefined.

    Returns:
        The refined labels, in the shape and type of `labels`.

    Raises:
        InputError: On other shapes and types, and if `scale` is no whole number: between pixels the original mixes ids
            into those of unrelated classes.
    """
    _check(labels, offsets)
    _check_whole("scale", scale)
    _check_whole("iterations", iterations)
    single = labels.ndim == 2
    if single:
        labels, offsets = labels[None], offsets[None]
    if sizes is None:
        sizes = np.full((len(labels), 2), labels.shape[1:], np.int32)
    elif np.shape(sizes) != (len(labels), 2):
        wanted = (len(labels), 2)
        raise InputError(f"sizes are of shape {np.shape(sizes)}, wanted {wanted}: height and width of each map")
    for _ in range(int(iterations)):
        labels = _gather(labels, offsets, sizes, int(scale), void)
    return labels[0] if single else labels


@jax.jit
def _gather(labels, offsets, sizes, scale, void):
    n, height, width = labels.shape
    last = sizes[:, :, None, None] - 1
    # The axes are split before the conversion; otherwise XLA writes the converted offsets to memory.
    down, right = (scale * offsets[..., axis].astype(jnp.int32) for axis in (0, 1))
    y = jnp.clip(jnp.arange(height)[:, None] + down, 0, last[:, 0])
    x = jnp.clip(jnp.arange(width) + right, 0, last[:, 1])
    moved = labels.at[jnp.arange(n)[:, None, None], y, x].get(mode="clip")  # faster than the default mode
    return moved if void is None else jnp.where((labels == void) | (moved == void), labels, moved)


def _check(labels, offsets) -> None:
    kind = np.dtype(labels.dtype)
    if kind.kind not in "iub" or kind.itemsize > 4:
        raise InputError(f"labels are of type {kind}, wanted integers of at most 32 bits, or booleans")
    if labels.ndim not in (2, 3):
        raise InputError(f"labels are of shape {labels.shape}, wanted (height, width) or (maps, height, width)")
    if np.dtype(offsets.dtype).kind not in "iu":
        raise InputError(f"offsets are of type {offsets.dtype}, wanted integers: steps in whole pixels")
    if offsets.shape != (*labels.shape, 2):
        raise InputError(f"offsets are of shape {offsets.shape}, wanted {(*labels.shape, 2)}, as the labels are")


def _check_whole(name: str, value: float) -> None:
    if not float(value).is_integer() or value < 1:
        why = ": between two pixels, the ids of classes would be mixed into those of others" if name == "scale" else ""
        raise InputError(f"{name} is {value}, wanted a whole number of at least 1{why}")
