"""Directions as classes, vectors and offsets (Yuan et al., ECCV 2020, arXiv:2007.04269, section 3.2).

An angle is in degrees, in [-180, 180]; its vector (sin, cos) is (down, right). Of D directions, D is 4, 8, 16 or 32,
class 0 is around -180 degrees, which is left, and the next ones follow by way of up. Functions of arrays return
arrays of the same library, NumPy or JAX; vectors and offsets are along a new last axis.
"""

from __future__ import annotations

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax.errors import InputError

Array = jax.Array | np.ndarray


def quantize(angle: Array, num_directions: int, *, shifted: bool = False) -> Array:
    """int32 class of each angle, one of `num_directions` sectors of equal size, of which the first is around -180.

    A sector contains its upper border. shifted: the original's four directions when its `c4_align_axis` is not set,
    whose sectors begin at -180, -90, 0 and 90 degrees and contain their lower border.
    """
    xp = _library(angle)
    step = 360 / num_directions
    if shifted:
        return xp.clip(xp.trunc((angle + 180) / step), 0, num_directions - 1).astype(np.int32)
    index = xp.ceil((angle + 180) / step - 0.5).astype(np.int32)
    return xp.where((index < 0) | (index >= num_directions), 0, index)


def centre(index: Array, num_directions: int, *, shifted: bool = False) -> Array:
    """The angle of each class, which is the middle of its sector."""
    return (index + (0.5 if shifted else 0)) * (360 / num_directions) - 180


def offset_table(num_directions: int, *, shifted: bool = False) -> np.ndarray:
    """int32 (D, 2): the pixel (down, right) that each class points to.

    They are all pixels of a square ring around the origin, at 1 pixel for 8 directions, 2 for 16 and 4 for 32. Four
    directions are every other of the eight.
    """
    if num_directions not in (4, 8, 16, 32):
        raise InputError(f"there are 4, 8, 16 or 32 directions, found {num_directions}")
    if num_directions == 4:
        return offset_table(8)[int(shifted) :: 2]
    side = num_directions // 4
    place = np.arange(num_directions, dtype=np.int32)
    # Around the ring, both coordinates go up and down evenly, but stop for the length of a side at its corners.
    wave = side - abs((place + np.array([[side], [2 * side]])) % num_directions - 2 * side)
    return -wave.clip(-side // 2, side // 2).T.astype(np.int32)


def offsets(index: Array, num_directions: int, *, shifted: bool = False) -> Array:
    """int32 (..., 2): where each class points to, in pixels; 0 for what is no class, such as -1 or D."""
    xp = _library(index)
    table = xp.asarray(np.pad(offset_table(num_directions, shifted=shifted), ((0, 1), (0, 0))))
    return table[xp.where((index < 0) | (index >= num_directions), num_directions, index)]


def unit_vector(angle: Array) -> Array:
    """(..., 2): (down, right) of length 1. Of `centre(quantize(angle, D), D)` it is the vector of a class."""
    xp = _library(angle)
    radians = xp.radians(angle)
    return xp.stack([xp.sin(radians), xp.cos(radians)], axis=-1)


def angle_of(vector: Array) -> Array:
    """The angle of each vector (..., 2); 0 where it is 0."""
    xp = _library(vector)
    return xp.degrees(xp.arctan2(vector[..., 0], vector[..., 1]))


def opposite(angle: Array) -> Array:
    """The angle the other way, in [-180, 180)."""
    xp = _library(angle)
    turned = angle + 180
    return xp.where(turned >= 180, turned - 360, turned)


def expected_vector(logits: Array, *, shifted: bool = False) -> Array:
    """logits (..., D) -> unit vectors (..., 2): the mean of the offsets of all classes, by their probabilities."""
    table = offset_table(logits.shape[-1], shifted=shifted)
    xp = _library(logits)
    powers = xp.exp(logits - logits.max(-1, keepdims=True))  # probabilities but for a factor, which the length undoes
    return _normalized(powers @ xp.asarray(table, logits.dtype))


def gradient_kernels(size: int) -> np.ndarray:
    """float32 (2, size, size): to be correlated with a map for its slope down and right.

    Of an odd size: i / (i^2 + j^2), where i is the place along the slope and j across it, counted from the centre.
    """
    down, right = np.indices((size, size), np.float32) - size // 2
    square = down**2 + right**2
    square[size // 2, size // 2] = 1
    return np.stack([down / square, right / square])


def vectors_off(boundary: np.ndarray, *, kernel_size: int = 11) -> np.ndarray:
    """float32 (H, W, 2): unit vectors that lead away from a boundary mask (H, W), beyond which nothing is interior."""
    interior = 1 - boundary.astype(np.float32)
    kernels = gradient_kernels(kernel_size)
    slopes = [cv2.filter2D(interior, cv2.CV_32F, kernel, borderType=cv2.BORDER_CONSTANT) for kernel in kernels]
    return _normalized(np.stack(slopes, axis=-1))


def boundary_labels(distance: Array, void: Array, *, min_distance: float = 0, max_distance: float = 5) -> Array:
    """int32: 1 where the distance to the boundary is within the range, 0 elsewhere, -1 on void (bool)."""
    xp = _library(distance)
    return xp.where(void, -1, within(distance, min_distance, max_distance)).astype(np.int32)


def direction_labels(
    angle: Array,
    distance: Array,
    void: Array,
    num_directions: int,
    *,
    max_distance: float = 5,
    shifted: bool = False,
) -> Array:
    """int32: class of each angle, D where the distance to the boundary is above the range, -1 on void (bool)."""
    xp = _library(angle)
    index = xp.where(distance > max_distance, num_directions, quantize(angle, num_directions, shifted=shifted))
    return xp.where(void, -1, index).astype(np.int32)


def offsets_to_interior(
    angle: Array,
    distance: Array,
    num_directions: int,
    *,
    min_distance: float = 0,
    max_distance: float = 5,
    shifted: bool = False,
) -> Array:
    """int32 (..., 2): where each angle points to, in pixels; 0 where the distance to the boundary is out of range."""
    xp = _library(angle)
    index = quantize(angle, num_directions, shifted=shifted)
    index = xp.where(within(distance, min_distance, max_distance), index, -1)
    return offsets(index, num_directions, shifted=shifted)


def energy_levels(distance: Array, void: Array, *, step: int = 5, max_distance: int = 5) -> Array:
    """int32: distance in whole steps, one level more from `max_distance` on, -1 on void (bool).

    As in the original, a step that does not divide max_distance leaves level 0 to the distances of its remainder.
    """
    xp = _library(distance)
    last = max_distance // step
    level = xp.where(distance < last * step, distance // step, 0)
    level = xp.where(distance >= max_distance, last, level)
    return xp.where(void, -1, level).astype(np.int32)


def within(distance: Array, min_distance: float, max_distance: float) -> Array:
    """bool: which pixels count as boundary."""
    return (distance >= min_distance) & (distance <= max_distance)


def unpack_labels(packed: np.ndarray) -> np.ndarray:
    """uint8 (...) -> uint8 (..., 8) of 0 and 1: bit i, of the value 2^i, is label i."""
    return np.unpackbits(packed[..., None], axis=-1, bitorder="little")


def pack_labels(labels: np.ndarray) -> np.ndarray:
    """(..., 8), 0 or not -> uint8 (...): the inverse of `unpack_labels`."""
    return np.packbits(labels != 0, axis=-1, bitorder="little")[..., 0]


def _normalized(vector: Array) -> Array:
    xp = _library(vector)
    return vector / xp.maximum(xp.sqrt(xp.sum(vector**2, axis=-1, keepdims=True)), 1e-12)


def _library(x: Array):
    return jnp if isinstance(x, jax.Array) else np
