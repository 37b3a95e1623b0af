"""Dynamic loss scaling for float16, in which small gradients become zero and large ones infinite.

The rule is that of torch's GradScaler: the scale doubles after 2000 good steps; after a step whose gradients are not
finite it halves, and the step is not taken. bfloat16 and float32 need none of this.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

FIRST, PATIENCE = 2.0**16, 2000


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossScale:
    """The scale, float32 (), and the number of good steps since it last changed, int32 ()."""

    scale: jax.Array | np.float32
    good: jax.Array | np.int32

    @classmethod
    def start(cls) -> "LossScale":
        return cls(np.float32(FIRST), np.int32(0))

    def after(self, finite: jax.Array) -> "LossScale":
        """Returns the scale after a step whose gradients were finite, or not: bool ()."""
        good = jnp.where(finite, self.good + 1, 0)
        grows = good == PATIENCE
        factor = jnp.where(finite, jnp.where(grows, 2.0, 1.0), 0.5)
        return LossScale(self.scale * factor, jnp.where(grows, 0, good))
