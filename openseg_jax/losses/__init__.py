"""Losses by name, as functions of the outputs of a net.

LOSSES maps the names of configs to them. `build` makes one function (outputs, labels) -> scalar out of a config.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from openseg_jax.errors import InputError
from openseg_jax.losses.cross_entropy import cross_entropy
from openseg_jax.losses.ohem import ohem

__all__ = ["LOSSES", "build", "cross_entropy", "ohem", "per_replica"]

Outputs = Mapping[str, jax.Array]


def _ce(outputs: Outputs, labels: jax.Array, *, class_weights, **_) -> jax.Array:
    return sum(cross_entropy(logits, labels, class_weights=class_weights) for logits in outputs.values())


def _ohem(outputs: Outputs, labels: jax.Array, *, class_weights, threshold, min_kept, **_) -> jax.Array:
    return ohem(outputs["out"], labels, threshold=threshold, min_kept=min_kept, class_weights=class_weights)


def _with_aux(main: Callable):
    def loss(outputs: Outputs, labels: jax.Array, *, class_weights, aux_weight, out_weight, **options) -> jax.Array:
        out = main({"out": outputs["out"]}, labels, class_weights=class_weights, **options)
        return out_weight * out + aux_weight * cross_entropy(outputs["aux"], labels, class_weights=class_weights)

    return loss


# name -> (function, the outputs that it takes, any of these sets)
LOSSES: dict[str, tuple[Callable, tuple[set[str], ...]]] = {
    "ce": (_ce, ({"out"}, {"aux", "out"})),
    "aux_ce": (_with_aux(_ce), ({"aux", "out"},)),
    "ohem": (_ohem, ({"out"},)),
    "aux_ohem": (_with_aux(_ohem), ({"aux", "out"},)),
}


def build(config) -> Callable[[Outputs, jax.Array], jax.Array]:
    """config: the `loss` part of a training config. Raises InputError on an unknown name."""
    if config.name not in LOSSES:
        raise InputError(f"unknown loss {config.name!r}; there are {', '.join(LOSSES)}")
    function, takes = LOSSES[config.name]
    options = {
        "class_weights": config.class_weights or None,
        "aux_weight": config.aux_weight,
        "out_weight": config.out_weight,
        "threshold": config.ohem_threshold,
        "min_kept": config.ohem_min_kept,
    }

    def loss(outputs: Outputs, labels: jax.Array) -> jax.Array:
        if set(outputs) not in takes:
            raise InputError(
                f"loss {config.name!r} wants the outputs {', '.join(sorted(takes[-1]))}, this model has "
                f"{', '.join(sorted(outputs))}; nets without auxiliary output take 'ce' or 'ohem', others 'aux_...'"
            )
        return function(outputs, labels, **options)

    return per_replica(loss, config.replicas)


def per_replica(loss: Callable, replicas: int) -> Callable:
    """The mean of the losses of `replicas` equal parts of the batch.

    The original computes its loss on each GPU alone. Where a part counts for itself (ignored pixels, class weights,
    the OHEM threshold) that differs from the loss of the whole batch: with `replicas` set to the number of GPUs of a
    published recipe, the recipe keeps its meaning on any number of devices.
    """
    if replicas == 1:
        return loss

    @functools.wraps(loss)
    def mean_loss(outputs: Outputs, labels: jax.Array) -> jax.Array:
        if labels.shape[0] % replicas:
            raise InputError(f"a batch of {labels.shape[0]} cannot be divided into loss.replicas={replicas} parts")
        parts = jax.tree.map(lambda x: x.reshape(replicas, -1, *x.shape[1:]), (dict(outputs), labels))
        return jnp.mean(jax.vmap(loss)(*parts))

    return mean_loss
