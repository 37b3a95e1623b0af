"""Angles, vectors and labels as the original has them, from the functions of the package, for comparison with it."""

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax.labels.directions import offsets, quantize, within


def centre(index, num_directions, *, shifted=False):
    """Returns the angle of each class, which is the middle of its sector."""
    return (index + (0.5 if shifted else 0)) * (360 / num_directions) - 180


def angle_of(vector):
    """Returns the angle of each vector (..., 2); 0 where it is 0."""
    xp = jnp if isinstance(vector, jax.Array) else np
    return xp.degrees(xp.arctan2(vector[..., 0], vector[..., 1]))


def direction_labels(angle, distance, void, num_directions, *, max_distance=5, shifted=False):
    """Returns the class of each angle, D where the distance to the boundary is above the range, -1 on void (bool)."""
    xp = jnp if isinstance(angle, jax.Array) else np
    index = xp.where(distance > max_distance, num_directions, quantize(angle, num_directions, shifted=shifted))
    return xp.where(void, -1, index)


def offsets_to_interior(angle, distance, num_directions, *, shifted=False):
    """Returns where each angle points to, in pixels, (..., 2); 0 where the distance to the boundary is above 5."""
    xp = jnp if isinstance(angle, jax.Array) else np
    index = quantize(angle, num_directions, shifted=shifted)
    return offsets(xp.where(within(distance, 0, 5), index, -1), num_directions, shifted=shifted)
