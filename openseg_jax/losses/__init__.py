"""Losses by name, as functions of the outputs of a net and of what they should be."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from openseg_jax.config import LossSettings, schema
from openseg_jax.errors import InputError
from openseg_jax.losses.ce2p import ce2p
from openseg_jax.losses.cross_entropy import cross_entropy, pixel_weights
from openseg_jax.losses.ohem import ohem
from openseg_jax.losses.rmi import rmi
from openseg_jax.losses.segfix import segfix
from openseg_jax.losses.upsampled import Upsampled

__all__ = ["LOSSES", "Upsampled", "build", "ce2p", "cross_entropy", "lookup", "ohem", "per_replica", "rmi", "segfix"]

# The logits of a net, by the names of its outputs; and the batch: "label", and "edge" or "distance" and "angle".
Outputs = Mapping[str, jax.Array | Upsampled]
Targets = Mapping[str, jax.Array]


def _ce(settings: LossSettings, outputs: Outputs, targets: Targets) -> jax.Array:
    losses = (cross_entropy(x, targets["label"], class_weights=_weights(settings)) for x in outputs.values())
    return functools.reduce(jnp.add, losses)


def _ohem(settings: LossSettings, outputs: Outputs, targets: Targets) -> jax.Array:
    options = {"threshold": settings.ohem_threshold, "min_kept": settings.ohem_min_kept}
    return ohem(outputs["out"], targets["label"], class_weights=_weights(settings), **options)


def _rmi(settings: LossSettings, outputs: Outputs, targets: Targets) -> jax.Array:
    return rmi(outputs["out"], targets["label"], **vars(settings.rmi))


def _with_aux(main: Callable) -> Callable:
    """Takes `main` for the main output and the cross-entropy for the auxiliary one."""

    def loss(settings: LossSettings, outputs: Outputs, targets: Targets) -> jax.Array:
        out = main(settings, {"out": outputs["out"]}, targets)
        return settings.out_weight * out + settings.aux_weight * _ce(settings, {"aux": outputs["aux"]}, targets)

    return loss


def _segfix(settings: LossSettings, outputs: Outputs, targets: Targets) -> jax.Array:
    maps = targets["label"], targets["distance"], targets["angle"]
    return segfix(outputs["mask"], outputs["direction"], *maps, **vars(settings.segfix))


def _ce2p(settings: LossSettings, outputs: Outputs, targets: Targets) -> jax.Array:
    weights = {"aux_weight": settings.aux_weight, "out_weight": settings.out_weight, **vars(settings.ce2p)}
    return ce2p(outputs, targets["label"], targets.get("edge"), class_weights=_weights(settings), **weights)


def _weights(settings: LossSettings) -> tuple[float, ...] | None:
    return settings.class_weights or None


def _counted(settings: LossSettings, targets: Targets) -> jax.Array:
    """The sum of the weights of all pixels, by which a mean over pixels is divided."""
    return jnp.sum(pixel_weights(targets["label"], 255, _weights(settings), jnp.result_type(float)))


class Loss(NamedTuple):
    """A loss and how it is divided.

    Attributes:
        function: (settings, outputs, targets) -> scalar.
        weight: (settings, targets) -> how much a part of a batch counts in the whole; None if labels do not tell.
    """

    function: Callable
    weight: Callable | None = None


# `config.schema.LOSSES` says of each which outputs it takes.
LOSSES: dict[str, Loss] = {
    "ce": Loss(_ce, _counted),
    "aux_ce": Loss(_with_aux(_ce), _counted),
    "ohem": Loss(_ohem),
    "aux_ohem": Loss(_with_aux(_ohem)),
    "rmi": Loss(_rmi),
    "aux_rmi": Loss(_with_aux(_rmi)),
    "segfix": Loss(_segfix),
    "ce2p": Loss(_ce2p),
}


def lookup(name: str) -> Loss:
    """Returns a loss by name. Raises InputError if there is none."""
    if name not in LOSSES:
        raise InputError(f"unknown loss {name!r}; there are {', '.join(LOSSES)}")
    return LOSSES[name]


def build(settings: LossSettings) -> Callable[[Outputs, Targets], jax.Array]:
    """Returns the function (outputs, targets) -> scalar of a loss.

    Raises:
        InputError: If the name is unknown; and when the function is called, if the outputs are not those of the loss.
    """
    entry, wanted = lookup(settings.name), schema.LOSSES[settings.name].outputs

    def loss(outputs: Outputs, targets: Targets) -> jax.Array:
        if set(outputs) not in wanted:
            raise InputError(
                f"loss {settings.name!r} wants the outputs {', '.join(sorted(wanted[-1]))}, this model has "
                f"{', '.join(sorted(outputs))}; nets without auxiliary output take 'ce', 'ohem' or 'rmi', "
                "those with one 'aux_...', CE2P 'ce2p', SegFix 'segfix'"
            )
        return entry.function(settings, outputs, targets)

    return loss if settings.scope == "global" else per_replica(loss, settings.replicas)


def per_replica(loss: Callable, replicas: int) -> Callable:
    """Returns the mean of the losses of `replicas` equal parts of the batch, as a function of the same form.

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
