"""Optimizers with the original's semantics: which way to go, and how far each group of parameters goes."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from openseg_jax.errors import InputError
from openseg_jax.training import schedules


class Group(NamedTuple):
    """Parameters that have a learning rate in common. part: "backbone" or "head". kernels: weights of convolutions."""

    part: str
    kernels: bool


GROUPS = tuple(Group(part, kernels) for part in ("backbone", "head") for kernels in (True, False))


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """config: the `optimizer` part of a training config; schedule: its `schedule` part; steps: all of them.

    As in torch, weight decay is added to the gradient (by adamw, to the update), and the learning rate comes after the
    momentum. Raises InputError on names that are unknown.
    """

    config: object
    schedule: object
    steps: int

    def __post_init__(self):
        if self.schedule.warmup.of not in ("all", "backbone", "kernels"):
            raise InputError(
                f'schedule.warmup.of must be "all", "backbone" or "kernels", found {self.schedule.warmup.of!r}'
            )
        schedules.make_factor(self.schedule, self.steps)
        self._direction()

    def init(self, params: dict):
        self._check_frozen(params)
        return self._direction().init(params)

    def update(self, gradients: dict, opt_state, params: dict, count: jax.Array, factor: jax.Array | float = 1.0):
        """(new parameters, new state). count: updates before this one; factor: of every learning rate."""
        if self.config.clip_norm:
            norm = optax.tree.norm(gradients)
            gradients = optax.tree.scale(self.config.clip_norm / jnp.maximum(norm, self.config.clip_norm), gradients)
        direction, opt_state = self._direction().update(gradients, opt_state, params)
        rates = self.rates(count, factor)

        def moved(path, p, d):
            group = self.group(path)
            return p if group is None else (p - rates[group].astype(p.dtype) * d).astype(p.dtype)

        return jax.tree_util.tree_map_with_path(moved, params, direction), opt_state

    def rates(self, count, factor: jax.Array | float = 1.0) -> dict[Group, jax.Array]:
        """The learning rate of each group for the update that follows `count` others."""
        base = self.config.learning_rate * factor * schedules.make_factor(self.schedule, self.steps)(count)
        warm, of = schedules.warmup(self.schedule.warmup, count), self.schedule.warmup.of
        result = {}
        for group in GROUPS:
            rate = base if group.part == "backbone" else base * self.config.head_multiplier
            warms = of == "all" or group.part == of or (of == "kernels" and group.kernels)
            result[group] = rate * warm if warms else rate
        return result

    def group(self, path) -> Group | None:
        """Of a parameter, by its path in the tree of all; None if it is frozen."""
        dotted = jax.tree_util.keystr(path, simple=True, separator=".")
        if any(dotted == prefix or dotted.startswith(f"{prefix}.") for prefix in self.config.freeze):
            return None
        return Group("backbone" if dotted.startswith("backbone.") else "head", dotted.endswith(".kernel"))

    def _check_frozen(self, params: dict) -> None:
        paths = [jax.tree_util.keystr(p, simple=True, separator=".") for p, _ in _leaves(params)]
        for prefix in self.config.freeze:
            if not any(path == prefix or path.startswith(f"{prefix}.") for path in paths):
                raise InputError(f"optimizer.freeze names {prefix!r}, but no parameter begins so; one is {paths[0]}")

    def without_frozen(self, params: dict) -> dict:
        """The same values, of which the frozen ones have no gradient."""
        if not self.config.freeze:
            return params
        stop = jax.lax.stop_gradient
        return jax.tree_util.tree_map_with_path(lambda path, p: stop(p) if self.group(path) is None else p, params)

    def _direction(self) -> optax.GradientTransformation:
        c = self.config
        decay = optax.add_decayed_weights(c.weight_decay, mask=None if c.decay_norms_and_biases else self._kernels)
        adam = optax.scale_by_adam(*c.betas, eps=c.epsilon)
        chains = {
            "sgd": (decay, optax.trace(c.momentum, nesterov=c.nesterov)),
            "adam": (decay, adam),
            "adamw": (adam, decay),
        }
        if c.name not in chains:
            raise InputError(f"unknown optimizer {c.name!r}; there are {', '.join(chains)}")
        return optax.chain(*chains[c.name])

    def _kernels(self, params: dict):
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _leaves(tree):
    return jax.tree_util.tree_leaves_with_path(tree)
