"""The typed state of a training run, and its form in checkpoints."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from openseg_jax import sharding
from openseg_jax.training.averaging import SwaAverage
from openseg_jax.training.schedules import Plateau

FIRST_SCALE, PATIENCE = 2.0**16, 2000


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossScale:
    """The scale, float32 (), and the number of good steps since it last changed, int32 ().

    In float16 small gradients become zero and large ones infinite. The rule is that of torch's GradScaler: the scale
    doubles after 2000 good steps; after a step whose gradients are not finite it halves, and the step is not taken.
    """

    scale: jax.Array | np.float32
    good: jax.Array | np.int32

    @classmethod
    def start(cls) -> "LossScale":
        return cls(np.float32(FIRST_SCALE), np.int32(0))

    def after(self, finite: jax.Array) -> "LossScale":
        """Returns the scale after a step whose gradients were finite, or not: bool ()."""
        good = jnp.where(finite, self.good + 1, 0)
        grows = good == PATIENCE
        factor = jnp.where(finite, jnp.where(grows, 2.0, 1.0), 0.5)
        return LossScale(self.scale * factor, jnp.where(grows, 0, good))


_NESTED = {"swa": SwaAverage, "plateau": Plateau, "loss_scale": LossScale}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a run carries from step to step. A part that the config does not ask for is None.

    Attributes:
        step: int32 (), the number of steps so far.
        params: The parameters, as `models.init` gives them.
        batch_stats: The running statistics of the batch norms.
        opt_state: The state of the optax transformation.
        ema: {"params", "batch_stats"}, their exponential moving average.
        swa: The mean of snapshots of the parameters.
        plateau: What a schedule that follows the validation remembers.
        loss_scale: The dynamic loss scale of float16.
    """

    step: jax.Array | int
    params: dict
    batch_stats: dict
    opt_state: tuple
    ema: dict | None = None
    swa: SwaAverage | None = None
    plateau: Plateau | None = None
    loss_scale: LossScale | None = None

    @property
    def variables(self) -> dict:
        """The variables that `models.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    def to_parts(self) -> tuple[dict, dict]:
        """Returns the items `variables` and `training` of a checkpoint, nested dicts without parts that are None."""
        parts = {name: part for name, part in vars(self).items() if name not in self.variables and part is not None}
        return self.variables, {name: vars(part) if name in _NESTED else part for name, part in parts.items()}

    @classmethod
    def from_parts(cls, variables: dict, training: dict) -> "TrainState":
        """Inverts `to_parts`."""
        parts = {name: _NESTED[name](**part) if name in _NESTED else part for name, part in training.items()}
        return cls(**variables, **parts)


def placements(state: TrainState, mesh: Mesh, shard_optimizer: bool) -> TrainState:
    """Returns the NamedSharding of each leaf of a state, or of its shapes.

    With `shard_optimizer`, what only the update needs (momenta, averages of the weights) is divided among the devices
    of the `data` axis, each of which then updates a part of the parameters. Scales, biases and statistics are not: they
    are few numbers, and `Packing` joins them.
    """
    placed = jax.tree.map(lambda _: sharding.replicated(mesh), state)
    if not shard_optimizer:
        return placed
    parts = {name: getattr(state, name) for name in ("opt_state", "ema", "swa")}
    place = lambda x: sharding.divided(mesh, x.shape) if len(x.shape) > 1 else sharding.replicated(mesh)  # noqa: E731
    return dataclasses.replace(placed, **jax.tree.map(place, parts))
