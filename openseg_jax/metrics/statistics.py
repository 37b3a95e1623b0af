"""What scores are worth: intervals by bootstrap over images, and whether two runs differ by more than chance.

counts are int (images, 3, K): for each image and class the pixels that are right, labelled and predicted.
"""

import dataclasses

import numpy as np

from openseg_jax.metrics.confusion import accuracy, ious, mean_iou


def interval(counts: np.ndarray, *, level: float = 0.95, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Returns the interval of mIoU for the share `level` of sets of as many images, drawn with replacement."""
    found = _resampled(counts, _draws(len(counts), draws, seed))
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The differences between two runs on the same images.

    Attributes:
        difference: The mIoU of the second run less that of the first.
        interval: In which the difference lies for 95 % of sets of as many images.
        chance: How often at least such a difference comes about when a coin gives the results of each image to a run.
        classes: float64 (K,), the differences in IoU.
        images: float64 (images,), the differences in pixel accuracy.
    """

    difference: float
    interval: tuple[float, float]
    chance: float
    classes: np.ndarray
    images: np.ndarray


def compare(first: np.ndarray, second: np.ndarray, *, draws: int = 1000, seed: int = 0) -> Comparison:
    """Compares the counts of two runs on the same images, in the same order."""
    chosen = _draws(len(first), draws, seed)
    resampled = _resampled(second, chosen) - _resampled(first, chosen)
    found = float(mean_iou(second.sum(0)) - mean_iou(first.sum(0)))
    rng = np.random.default_rng(seed + 1)
    exchanged = rng.random((draws, len(first))) < 0.5
    step = (second.astype(np.int64) - first).reshape(len(first), -1)
    moved = (exchanged.astype(np.int64) @ step).reshape(draws, *first.shape[1:])
    permuted = mean_iou(second.sum(0) - moved) - mean_iou(first.sum(0) + moved)
    return Comparison(
        difference=found,
        interval=tuple(float(x) for x in np.nanquantile(resampled, [0.025, 0.975])),
        chance=float((1 + np.sum(np.abs(permuted) >= abs(found) - 1e-12)) / (1 + draws)),
        classes=ious(second.sum(0)) - ious(first.sum(0)),
        images=accuracy(second) - accuracy(first),
    )


def _draws(count: int, draws: int, seed: int) -> np.ndarray:
    """Returns int (draws, count), how often each image is in each draw."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1 / count), size=draws)


def _resampled(counts: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    sums = chosen @ counts.reshape(len(counts), -1).astype(np.int64)
    return mean_iou(sums.reshape(len(chosen), *counts.shape[1:]))
