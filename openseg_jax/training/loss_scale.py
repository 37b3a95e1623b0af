"""Dynamic loss scaling for float16, whose small gradients would be zero and whose large ones infinite.

With the rule of torch's GradScaler: twice the scale after 2000 good steps, half of it after one that is not finite, and
is not taken. Of bfloat16 and float32 none of this is needed.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

FIRST, PATIENCE = 2.0**16, 2000


def scale_state() -> dict[str, np.ndarray]:
    return {"scale": np.float32(FIRST), "good": np.int32(0)}


def scale_after(state: dict, finite: jax.Array) -> dict:
    """The state after a step whose gradients were finite, or not."""
    good = jnp.where(finite, state["good"] + 1, 0)
    grows = good == PATIENCE
    factor = jnp.where(finite, jnp.where(grows, 2.0, 1.0), 0.5)
    return {"scale": state["scale"] * factor, "good": jnp.where(grows, 0, good)}
