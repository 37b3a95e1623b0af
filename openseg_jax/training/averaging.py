"""Averages of snapshots of the weights (SWA, Izmailov et al. 2018, arXiv:1803.05407)."""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from openseg_jax import models
from openseg_jax.data.normalize import Normalization, normalize
from openseg_jax.labels.classes import to_labels
from openseg_jax.training.schedules import swa_parts


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SwaAverage:
    """The running mean of the snapshots of the parameters, and their number, int32 ()."""

    params: dict
    count: jax.Array | int

    @classmethod
    def start(cls, params: dict) -> "SwaAverage":
        return cls(jax.tree.map(jnp.zeros_like, params), 0)

    def after(self, params: dict, updates: jax.Array, steps: int) -> "SwaAverage":
        """Returns the mean after `updates` of `steps` updates, the last of which gave `params`."""
        start, cycle = swa_parts(steps)
        is_snapshot = (updates > start) & (((updates - start) % cycle == 0) | (updates == steps))
        weight = jnp.where(is_snapshot, 1 / (self.count + 1), 0)
        mean = jax.tree.map(lambda a, p: (a + weight * (p - a)).astype(p.dtype), self.params, params)
        return SwaAverage(mean, self.count + is_snapshot)


def batch_statistics(
    model: models.Segmentor, params: dict, batches: Iterator[dict], count: int, normalization: Normalization
) -> dict:
    """Returns the batch statistics of averaged parameters, which no training step has computed.

    They are means over the means and unbiased variances of `count` training batches on the device, all of one size.
    """

    @jax.jit
    def add(total, batch):
        images = normalize(batch["image"], batch["box"], normalization)
        labels = to_labels(batch["label"]) if model.head.needs_labels else None
        zeros = jax.tree.map(jnp.zeros_like, total)  # a tenth of the batch's statistics is added to the running ones
        variables = {"params": params, "batch_stats": zeros}
        _, found = models.apply(model, variables, images, train=True, labels=labels, upsample=False)
        return jax.tree.map(lambda t, f: t + f / (0.1 * count), total, found)

    total = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), models.shapes(model)["batch_stats"])
    for _ in range(count):
        total = add(total, next(batches))
    return total
