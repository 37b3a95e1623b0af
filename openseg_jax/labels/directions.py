"""Directions to the interior as classes and as offsets (Yuan et al., ECCV 2020, arXiv:2007.04269, section 3.2).

Angles are in degrees, in [-180, 180]; the vector of an angle is (sin, cos), which is (down, right). The number of
directions D is 4, 8, 16 or 32. Class 0 lies around -180 degrees, which is left, and the next ones follow clockwise,
by way of up. The functions take arrays of NumPy or of JAX and return arrays of the same library.
"""

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax.errors import InputError

Array = jax.Array | np.ndarray


def quantize(angle: Array, num_directions: int, *, shifted: bool = False) -> Array:
    """Returns the class of each angle: one of D sectors of equal size, each of which contains its upper border.

    Args:
        angle: Degrees, of any shape.
        num_directions: D.
        shifted: Takes sectors that begin at -180, -90, 0 and 90 degrees and contain their lower border. The original
            uses them for four directions unless its `c4_align_axis` is set.

    Returns:
        int32 of the shape of `angle`, 0 to D - 1.
    """
    xp = _library(angle)
    step = 360 / num_directions
    if shifted:
        return xp.clip(xp.trunc((angle + 180) / step), 0, num_directions - 1).astype(np.int32)
    index = xp.ceil((angle + 180) / step - 0.5).astype(np.int32)
    return xp.where((index < 0) | (index >= num_directions), 0, index)


def offset_table(num_directions: int, *, shifted: bool = False) -> np.ndarray:
    """Returns the pixel that each class points to, int32 (D, 2), (down, right).

    The D pixels form a square ring around the origin, at 1 pixel for 8 directions, 2 for 16 and 4 for 32. Four
    directions are every other one of the eight, and start with the second one if `shifted`. Raises InputError on
    another D.
    """
    if num_directions not in (4, 8, 16, 32):
        raise InputError(f"there are 4, 8, 16 or 32 directions, found {num_directions}")
    if num_directions == 4:
        return offset_table(8)[int(shifted) :: 2]
    side = num_directions // 4
    place = np.arange(num_directions, dtype=np.int32)
    # Around the ring, both coordinates rise and fall evenly, but stay constant along one side of the square.
    wave = side - abs((place + np.array([[side], [2 * side]])) % num_directions - 2 * side)
    return -wave.clip(-side // 2, side // 2).T.astype(np.int32)


def offsets(index: Array, num_directions: int, *, shifted: bool = False) -> Array:
    """Returns where each class points to, int32 (..., 2) pixels, (down, right).

    Args:
        index: Integers of any shape. What is no class, such as -1 or D, has the offset 0.
        num_directions: D.
        shifted: See `quantize`.
    """
    xp = _library(index)
    table = xp.asarray(np.pad(offset_table(num_directions, shifted=shifted), ((0, 1), (0, 0))))
    return table[xp.where((index < 0) | (index >= num_directions), num_directions, index)]


def gradient_kernels(size: int) -> np.ndarray:
    """Returns the two kernels that are correlated with a map for its slope down and right, float32 (2, size, size).

    The size is odd. The values are i / (i^2 + j^2), where i is the position along the slope and j across it, both
    counted from the centre.
    """
    down, right = np.indices((size, size), np.float32) - size // 2
    square = down**2 + right**2
    square[size // 2, size // 2] = 1
    return np.stack([down / square, right / square])


def boundary_labels(distance: Array, void: Array, *, min_distance: float = 0, max_distance: float = 5) -> Array:
    """Returns int32: 1 where the distance (pixels) to the boundary is in the range, 0 elsewhere, -1 on void (bool)."""
    xp = _library(distance)
    return xp.where(void, -1, within(distance, min_distance, max_distance)).astype(np.int32)


def within(distance: Array, min_distance: float, max_distance: float) -> Array:
    """Returns bool: which pixels count as boundary."""
    return (distance >= min_distance) & (distance <= max_distance)


def _library(x: Array):
    return jnp if isinstance(x, jax.Array) else np
