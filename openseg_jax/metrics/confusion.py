"""Scores of classes from counts of pixels, with the original's formulas (RunningScore).

counts are int (..., 3, K): for each class the pixels that are right, labelled and predicted.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax.metrics.accumulator import Accumulator


def confusion_matrix(labels: jax.Array, predictions: jax.Array, num_classes: int) -> jax.Array:
    """int32 (K, K), entry [i, j] counting pixels of class i predicted as j; labels or predictions >= K do not count."""
    labels, predictions = labels.astype(jnp.int32).reshape(-1), predictions.astype(jnp.int32).reshape(-1)
    counted = (labels >= 0) & (labels < num_classes) & (predictions >= 0) & (predictions < num_classes)
    cell = jnp.where(counted, labels * num_classes + predictions, num_classes**2)
    counts = jnp.zeros(num_classes**2 + 1, jnp.int32).at[cell].add(1)
    return counts[:-1].reshape(num_classes, num_classes)


def class_counts(confusion: np.ndarray) -> np.ndarray:
    """Returns the counts (3, K) of a confusion matrix (K, K)."""
    return np.stack([np.diagonal(confusion), confusion.sum(1), confusion.sum(0)])


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Returns the fractions part / whole in float64, nan where both are 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(part, np.float64) / whole


def ious(counts: np.ndarray) -> np.ndarray:
    """Returns the IoU (..., K) of each class; nan where there is neither label nor prediction."""
    right, labelled, predicted = np.moveaxis(np.asarray(counts), -2, 0)
    return ratio(right, labelled + predicted - right)


def mean_iou(counts: np.ndarray) -> np.ndarray:
    """Returns the mean IoU (...) over the classes that occur."""
    return mean(ious(counts))


def accuracy(counts: np.ndarray) -> np.ndarray:
    """Returns the pixel accuracy (...); nan without labels."""
    right, labelled, _ = np.moveaxis(np.asarray(counts), -2, 0)
    return ratio(right.sum(-1), labelled.sum(-1))


def mean(values: np.ndarray) -> np.ndarray:
    """Returns the mean over the last axis of what is not nan, nan without a warning where nothing is left."""
    exists = ~np.isnan(values)
    return ratio(np.where(exists, values, 0).sum(-1), exists.sum(-1))


def scores(confusion: np.ndarray, left_out: Sequence[int] = ()) -> dict:
    """Returns the scores of an integer (K, K) confusion matrix summed over a data set, as fractions.

    The means leave out the classes at the places `left_out`, whose pixels still count as mistakes of the others.

    miou: mean IoU. A class that occurs neither in labels nor in predictions has no IoU (nan) and is left out; one
    that is only ever predicted counts as 0. mean_accuracy leaves out classes without labels. Also pixel_accuracy,
    frequency_weighted_iou, and per class iou and accuracy.
    """
    counts = class_counts(np.asarray(confusion, np.int64))
    right, labelled, _ = counts
    iou, recall = ious(counts), ratio(right, labelled)
    return {
        "miou": float(mean(np.delete(iou, left_out))),
        "pixel_accuracy": float(accuracy(counts)),
        "mean_accuracy": float(mean(np.delete(recall, left_out))),
        "frequency_weighted_iou": float((ratio(labelled, labelled.sum()) * iou)[labelled > 0].sum()),
        "iou": iou,
        "accuracy": recall,
    }


class Confusion(Accumulator):
    """Adds up confusion matrices, and keeps the counts of each image."""

    main_score = "miou"

    def __init__(self, num_classes: int, images: int = 0, name: str = "counts", left_out: Sequence[int] = ()):
        """Begins without images, to keep the counts of `images` of them.

        name: The reader `ConfusionCounts`. left_out: The places of classes that do not count in means.
        """
        self._name, self._left_out = name, np.array(left_out, int)
        matrix, counts = np.zeros((num_classes, num_classes), np.int64), np.zeros((images, 3, num_classes), np.int32)
        self.sums = {"matrix": matrix, "images": counts}

    @property
    def matrix(self) -> np.ndarray:
        """int64 (K, K), the confusion matrix of the images so far."""
        return self.sums["matrix"]

    @property
    def images(self) -> np.ndarray:
        """int32 (images, 3, K), the counts of each image, 0 for those to come and for classes that are left out."""
        return self.sums["images"]

    def update(self, item) -> None:
        counts = item[self._name]
        self.sums["matrix"] += counts
        if len(self.images):
            self.images[item.index] = class_counts(counts)
            self.images[item.index, :, self._left_out] = 0

    def result(self) -> dict:
        """Returns what `scores` does."""
        return scores(self.matrix, self._left_out)
