"""Scores from a confusion matrix, with the original's formulas (RunningScore)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def confusion_matrix(labels: jax.Array, predictions: jax.Array, num_classes: int) -> jax.Array:
    """int32 (K, K), entry [i, j] counting pixels of class i predicted as j; labels or predictions >= K do not count."""
    labels, predictions = labels.astype(jnp.int32).reshape(-1), predictions.astype(jnp.int32).reshape(-1)
    counted = (labels >= 0) & (labels < num_classes) & (predictions >= 0) & (predictions < num_classes)
    cell = jnp.where(counted, labels * num_classes + predictions, num_classes**2)
    counts = jnp.zeros(num_classes**2 + 1, jnp.int32).at[cell].add(1)
    return counts[:-1].reshape(num_classes, num_classes)


def class_counts(confusion: jax.Array) -> jax.Array:
    """int32 (3, K): the pixels of one image that are right, labelled and predicted of each class, of those counted."""
    return jnp.stack([jnp.diagonal(confusion), confusion.sum(1), confusion.sum(0)])


def scores(confusion: np.ndarray) -> dict:
    """Scores of an integer (K, K) confusion matrix summed over a data set, as fractions.

    miou: mean IoU. A class that occurs neither in labels nor in predictions has no IoU (nan) and is left out; one
    that is only ever predicted counts as 0. mean_accuracy leaves out classes without labels. Also pixel_accuracy,
    frequency_weighted_iou, and per class iou and accuracy.
    """
    confusion = np.asarray(confusion, np.float64)
    correct, labelled, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = correct / (labelled + predicted - correct)
        accuracy = correct / labelled
        frequency = labelled / confusion.sum()
        return {
            "miou": _mean(iou),
            "pixel_accuracy": float(correct.sum() / confusion.sum()),
            "mean_accuracy": _mean(accuracy),
            "frequency_weighted_iou": float((frequency * iou)[labelled > 0].sum()),
            "iou": iou,
            "accuracy": accuracy,
        }


def _mean(values: np.ndarray) -> float:
    """nan-mean, nan without a warning if nothing is left."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
