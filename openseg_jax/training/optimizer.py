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


class Role(NamedTuple):
    """What a parameter is to the optimizer: its group, and whether it stays as it is."""

    group: Group
    frozen: bool


GROUPS = tuple(Group(part, kernels) for part in ("backbone", "head") for kernels in (True, False))


def _dotted(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def global_norm(tree) -> jax.Array:
    """Returns the Euclidean norm of all leaves together, a scalar.

    First come the norms along all axes of a leaf but the last one, which XLA computes in the kernel that updates this
    leaf; that of a whole leaf would be a kernel or two of a GPU of its own.
    """
    norms = [x if x.ndim == 1 else jnp.sqrt(jnp.sum(x * x, axis=range(x.ndim - 1))) for x in jax.tree.leaves(tree)]
    joined = (jnp.concatenate(norms[start : start + 64]) for start in range(0, len(norms), 64))
    return jnp.sqrt(sum(jnp.sum(x * x) for x in joined))


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
        return self._direction(self.roles(params)).init(params)

    def roles(self, params: dict) -> dict:
        """Returns the role of each parameter, by its path."""

        def role(path, _) -> Role:
            group = Group("backbone" if _dotted(path).startswith("backbone.") else "head", path[-1].key == "kernel")
            return Role(group, self.group(path) is None)

        return jax.tree_util.tree_map_with_path(role, params)

    def update(self, gradients, opt_state, params, roles, count: jax.Array, factor: jax.Array | float = 1.0):
        """Returns parameters and state after an update that follows `count` others; `factor` scales every rate.

        gradients, params: Trees of one structure, and `opt_state` the state of such a tree. roles: The role of each
        leaf.
        """
        clip_norm = self.settings.clip_norm
        if clip_norm:
            norm = global_norm(gradients)
            gradients = optax.tree.scale(clip_norm / jnp.maximum(norm, clip_norm), gradients)
        direction, opt_state = self._direction(roles).update(gradients, opt_state, params)
        rates = self.rates(count, factor)

        def moved(p, d, role):
            return p if role.frozen else (p - rates[role.group].astype(p.dtype) * d).astype(p.dtype)

        return jax.tree.map(moved, params, direction, roles), opt_state

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

    def _direction(self, roles) -> optax.GradientTransformation:
        s = self.settings
        kernels = jax.tree.map(lambda role: role.group.kernels, roles, is_leaf=lambda x: isinstance(x, Role))
        decay = optax.add_decayed_weights(s.weight_decay, mask=None if s.decay_norms_and_biases else kernels)
        adam = optax.scale_by_adam(*s.betas, eps=s.epsilon)
        momentum = optax.trace(s.momentum, nesterov=s.nesterov)
        return optax.chain(*{"sgd": (decay, momentum), "adam": (decay, adam), "adamw": (adam, decay)}[s.name])
