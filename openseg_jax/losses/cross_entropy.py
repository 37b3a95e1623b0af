"""Cross-entropy over pixels, with the original's conventions (FSCELoss)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax.models.resize import nearest_taps


def cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    ignore: int = 255,
    class_weights: Sequence[float] | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """Weighted cross-entropy; scalar, in the dtype of the logits.

    logits: (N, h, w, K) float; labels: (N, H, W) integers, brought to (h, w) by torch's nearest rule if need be.
    class_weights: K numbers. "mean" divides by the sum of the weights of the counted pixels, not by their number;
    "sum" does not divide. A batch in which everything is ignored gives 0 where the original gives NaN.
    """
    labels = resize_labels(labels, logits.shape[1:3])
    valid = labels != ignore
    labels = jnp.where(valid, labels, 0)
    weights = valid * pixel_weights(labels, class_weights, logits.dtype)
    total = jnp.sum(weights * negative_log_likelihood(logits, labels))
    if reduction == "sum":
        return total
    norm = jnp.sum(weights)
    return total / jnp.where(norm > 0, norm, 1)


def negative_log_likelihood(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-log softmax(logits)[label] per pixel. A masked sum in place of an index: its gradient needs no scatter."""
    chosen = labels[..., None] == jnp.arange(logits.shape[-1])
    return -jnp.sum(jnp.where(chosen, jax.nn.log_softmax(logits, axis=-1), 0), axis=-1)


def pixel_weights(labels: jax.Array, class_weights: Sequence[float] | None, dtype) -> jax.Array:
    """The weight of each pixel's class; ones without class weights."""
    if class_weights is None:
        return jnp.ones(labels.shape, dtype)
    return jnp.asarray(class_weights, dtype)[labels]


def resize_labels(labels: jax.Array, size: tuple[int, int]) -> jax.Array:
    """(N, H, W) -> (N, h, w) by the float32 nearest rule of torch, with which the original brings labels to logits."""
    for axis, (n_in, n_out) in enumerate(zip(labels.shape[1:], size, strict=True), start=1):
        if n_in != n_out:
            (index,), _ = nearest_taps(np.arange(n_out), n_in, n_out)
            labels = jnp.take(labels, index, axis=axis)
    return labels
