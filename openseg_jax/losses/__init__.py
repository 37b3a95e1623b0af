"""Losses by name, as functions of the outputs of a net and of what they should be.

LOSSES maps the names of configs to them. `build` makes one function (outputs, targets) -> scalar out of a config.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from openseg_jax.errors import InputError
from openseg_jax.losses.ce2p import ce2p
from openseg_jax.losses.cross_entropy import cross_entropy, pixel_weights
from openseg_jax.losses.ohem import ohem
from openseg_jax.losses.rmi import rmi
from openseg_jax.losses.segfix import segfix
from openseg_jax.losses.upsampled import Upsampled

__all__ = ["LOSSES", "Upsampled", "build", "ce2p", "cross_entropy", "ohem", "per_replica", "rmi", "segfix"]

# What a net says, by the names of its outputs; and the batch: "label", and "edge" or "distance" and "angle".
Outputs = Mapping[str, jax.Array | Upsampled]
Targets = Mapping[str, jax.Array]


def _ce(config, outputs: Outputs, targets: Targets) -> jax.Array:
    options = {"class_weights": config.class_weights or None}
    return sum(cross_entropy(logits, targets["label"], **options) for logits in outputs.values())


def _ohem(config, outputs: Outputs, targets: Targets) -> jax.Array:
    options = {"threshold": config.ohem_threshold, "min_kept": config.ohem_min_kept}
    return ohem(outputs["out"], targets["label"], class_weights=config.class_weights or None, **options)


def _rmi(config, outputs: Outputs, targets: Targets) -> jax.Array:
    return rmi(outputs["out"], targets["label"], **vars(config.rmi))


def _with_aux(main: Callable) -> Callable:
    """The main output as `main` has it, and the auxiliary one by cross-entropy."""

    def loss(config, outputs: Outputs, targets: Targets) -> jax.Array:
        out = main(config, {"out": outputs["out"]}, targets)
        return config.out_weight * out + config.aux_weight * _ce(config, {"aux": outputs["aux"]}, targets)

    return loss


def _segfix(config, outputs: Outputs, targets: Targets) -> jax.Array:
    maps = targets["label"], targets["distance"], targets["angle"]
    return segfix(outputs["mask"], outputs["direction"], *maps, **vars(config.segfix))


def _ce2p(config, outputs: Outputs, targets: Targets) -> jax.Array:
    weights = {"aux_weight": config.aux_weight, "out_weight": config.out_weight}
    options = weights | {"class_weights": config.class_weights or None, **vars(config.ce2p)}
    return ce2p(outputs, targets["label"], targets.get("edge"), **options)


def _counted(config, targets: Targets) -> jax.Array:
    """By what a mean over pixels is divided, if labels alone tell."""
    return jnp.sum(pixel_weights(targets["label"], 255, config.class_weights or None, jnp.result_type(float)))


class Loss(NamedTuple):
    """function: (config, outputs, targets) -> scalar. outputs: the sets of outputs that it takes.

    weight: (config, targets) -> how much the loss of a part of a batch counts in that of the whole; None if labels
    alone do not tell. needs: maps that the targets must have.
    """

    function: Callable
    outputs: tuple[set[str], ...]
    weight: Callable | None = None
    needs: tuple[str, ...] = ()


_ONE, _TWO = {"out"}, {"aux", "out"}

LOSSES: dict[str, Loss] = {
    "ce": Loss(_ce, (_ONE, _TWO), _counted),
    "aux_ce": Loss(_with_aux(_ce), (_TWO,), _counted),
    "ohem": Loss(_ohem, (_ONE,)),
    "aux_ohem": Loss(_with_aux(_ohem), (_TWO,)),
    "rmi": Loss(_rmi, (_ONE,)),
    "aux_rmi": Loss(_with_aux(_rmi), (_TWO,)),
    "segfix": Loss(_segfix, ({"mask", "direction"},), needs=("distance", "angle")),
    "ce2p": Loss(_ce2p, ({"seg_out1", "edge_out", "seg_dsn", "seg_out2"},)),
}


def lookup(name: str) -> Loss:
    if name not in LOSSES:
        raise InputError(f"unknown loss {name!r}; there are {', '.join(LOSSES)}")
    return LOSSES[name]


def build(config) -> Callable[[Outputs, Targets], jax.Array]:
    """config: the `loss` part of a training config. Raises InputError on an unknown name or scope."""
    entry = lookup(config.name)
    if config.scope not in ("global", "replica"):
        raise InputError(f'loss.scope must be "global" or "replica", found {config.scope!r}')

    def loss(outputs: Outputs, targets: Targets) -> jax.Array:
        if set(outputs) not in entry.outputs:
            raise InputError(
                f"loss {config.name!r} wants the outputs {', '.join(sorted(entry.outputs[-1]))}, this model has "
                f"{', '.join(sorted(outputs))}; nets without auxiliary output take 'ce', 'ohem' or 'rmi', "
                "those with one 'aux_...', CE2P 'ce2p', SegFix 'segfix'"
            )
        missing = [name for name in entry.needs if name not in targets]
        if missing:
            raise InputError(f'loss {config.name!r} needs {" and ".join(missing)}: set data.maps=("offset",)')
        return entry.function(config, outputs, targets)

    return loss if config.scope == "global" else per_replica(loss, config.replicas)


def per_replica(loss: Callable, replicas: int) -> Callable:
    """The mean of the losses of `replicas` equal parts of the batch.

    The original computes its loss on each GPU alone. Where a part counts for itself (ignored pixels, class weights,
    the OHEM threshold) that differs from the loss of the whole batch: with `replicas` set to the number of GPUs of a
    published recipe, the recipe keeps its meaning on any number of devices.
    """

    @functools.wraps(loss)
    def mean_loss(outputs: Outputs, targets: Targets) -> jax.Array:
        batch = targets["label"].shape[0]
        if batch % replicas:
            raise InputError(f"a batch of {batch} cannot be divided into loss.replicas={replicas} parts")
        parts = jax.tree.map(lambda x: x.reshape(replicas, -1, *x.shape[1:]), (dict(outputs), dict(targets)))
        return jnp.mean(jax.vmap(loss)(*parts))

    return mean_loss
