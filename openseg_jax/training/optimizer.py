"""Optimizers with the original's semantics: the direction of a step, and the learning rate of each parameter group."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from openseg_jax.config import OptimizerSettings, ScheduleSettings
from openseg_jax.errors import InputError
from openseg_jax.training import schedules


class Group(NamedTuple):
    """Parameters that share a learning rate: the convolution kernels, or all others, of "backbone" or "head"."""

    part: str
    kernels: bool


GROUPS = tuple(Group(part, kernels) for part in ("backbone", "head") for kernels in (True, False))


def _dotted(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Updates parameters as torch does: weight decay is added to the gradient (with adamw to the update), and the
    learning rate is applied after the momentum. `steps` is the number of all updates.
    """

    settings: OptimizerSettings
    schedule: ScheduleSettings
    steps: int

    def init(self, params: dict) -> tuple:
        """Returns the state of the optimizer; raises InputError if `freeze` names something that is no parameter."""
        paths = [_dotted(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        for prefix in self.settings.freeze:
            if not any(f"{path}.".startswith(f"{prefix}.") for path in paths):
                raise InputError(f"optimizer.freeze names {prefix!r}, but no parameter begins so; one is {paths[0]}")
        return self._direction().init(params)

    def update(self, gradients: dict, opt_state, params: dict, count: jax.Array, factor: jax.Array | float = 1.0):
        """Returns parameters and state after an update that follows `count` others; `factor` scales every rate."""
        clip_norm = self.settings.clip_norm
        if clip_norm:
            norm = optax.tree.norm(gradients)
            gradients = optax.tree.scale(clip_norm / jnp.maximum(norm, clip_norm), gradients)
        direction, opt_state = self._direction().update(gradients, opt_state, params)
        rates = self.rates(count, factor)

        def moved(path, p, d):
            group = self.group(path)
            return p if group is None else (p - rates[group].astype(p.dtype) * d).astype(p.dtype)

        return jax.tree_util.tree_map_with_path(moved, params, direction), opt_state

    def rates(self, count, factor: jax.Array | float = 1.0) -> dict[Group, jax.Array]:
        """Returns the learning rate of each group for the update after `count` others."""
        base = self.settings.learning_rate * factor * schedules.make_factor(self.schedule, self.steps)(count)
        warm, of = schedules.warmup(self.schedule.warmup, count), self.schedule.warmup.of
        result = {}
        for group in GROUPS:
            rate = base if group.part == "backbone" else base * self.settings.head_multiplier
            warms = of == "all" or group.part == of or (of == "kernels" and group.kernels)
            result[group] = rate * warm if warms else rate
        return result

    def group(self, path) -> Group | None:
        """Returns the group of the parameter at a path of the tree, None if it is frozen."""
        dotted = _dotted(path)
        if any(f"{dotted}.".startswith(f"{prefix}.") for prefix in self.settings.freeze):
            return None
        return Group("backbone" if dotted.startswith("backbone.") else "head", dotted.endswith(".kernel"))

    def without_frozen(self, params: dict) -> dict:
        """Returns the same parameters, of which the frozen ones pass no gradient on."""
        if not self.settings.freeze:
            return params
        stop = jax.lax.stop_gradient
        return jax.tree_util.tree_map_with_path(lambda path, p: stop(p) if self.group(path) is None else p, params)

    def _direction(self) -> optax.GradientTransformation:
        s = self.settings
        decay = optax.add_decayed_weights(s.weight_decay, mask=None if s.decay_norms_and_biases else self._kernels)
        adam = optax.scale_by_adam(*s.betas, eps=s.epsilon)
        momentum = optax.trace(s.momentum, nesterov=s.nesterov)
        return optax.chain(*{"sgd": (decay, momentum), "adam": (decay, adam), "adamw": (adam, decay)}[s.name])

    def _kernels(self, params: dict):
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
