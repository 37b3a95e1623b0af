"""Directions as classes. An angle is in degrees, in [-180, 180]; direction (sin, cos) is (down, right)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def quantize(angle: jax.Array | np.ndarray, num_directions: int, *, shifted: bool = False):
    """int32 class of each angle, one of `num_directions` sectors of equal size, of which the first is around -180.

    A sector contains its upper border. shifted: the original's four directions when its `c4_align_axis` is not set,
    whose sectors begin at -180, -90, 0 and 90 degrees and contain their lower border.
    """
    xp = jnp if isinstance(angle, jax.Array) else np
    step = 360 / num_directions
    if shifted:
        return xp.clip(xp.trunc((angle + 180) / step), 0, num_directions - 1).astype(np.int32)
    index = xp.ceil((angle + 180) / step - 0.5).astype(np.int32)
    return xp.where((index < 0) | (index >= num_directions), 0, index)
