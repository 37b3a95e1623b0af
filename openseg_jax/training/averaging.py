"""Averages of the weights: exponential (EMA), and of snapshots (SWA, Izmailov et al. 2018, arXiv:1803.05407)."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from openseg_jax import models
from openseg_jax.data.normalize import Normalization, normalize
from openseg_jax.labels.classes import to_labels
from openseg_jax.training.schedules import swa_parts


def ema_after(average: dict, variables: dict, decay: float) -> dict:
    """decay * average + (1 - decay) * variables, of parameters and statistics."""
    return jax.tree.map(lambda a, v: (decay * a + (1 - decay) * v).astype(v.dtype), average, variables)


def swa_after(average: dict, params: dict, updates: jax.Array, steps: int) -> dict:
    """The running mean {"params", "count"} of the snapshots, after so many updates of `steps`."""
    start, cycle = swa_parts(steps)
    is_snapshot = (updates > start) & (((updates - start) % cycle == 0) | (updates == steps))
    weight = jnp.where(is_snapshot, 1 / (average["count"] + 1), 0)
    mean = jax.tree.map(lambda a, p: (a + weight * (p - a)).astype(p.dtype), average["params"], params)
    return {"params": mean, "count": average["count"] + is_snapshot}


def batch_statistics(
    model: models.Segmentor, params: dict, batches: Iterator[dict], count: int, normalization: Normalization
) -> dict:
    """The batch statistics of given parameters: the mean over `count` batches of their means and unbiased variances.

    What averaged weights need, whose own statistics nothing has seen. Batches must be of one size.
    """

    @jax.jit
    def add(total, batch):
        images = normalize(batch["image"], batch["box"], normalization)
        told = to_labels(batch["label"]) if model.head.needs_labels else None
        zeros = jax.tree.map(jnp.zeros_like, total)  # a tenth of the batch's statistics is added to the running ones
        _, found = models.apply(
            model, {"params": params, "batch_stats": zeros}, images, train=True, labels=told, upsample=False
        )
        return jax.tree.map(lambda t, f: t + f / (0.1 * count), total, found)

    total = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), models.shapes(model)["batch_stats"])
    for _ in range(count):
        total = add(total, next(batches))
    return total
