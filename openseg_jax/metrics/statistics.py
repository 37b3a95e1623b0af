"""What scores are worth: intervals by bootstrap over images, and whether two runs differ by more than chance.

counts: int (images, 3, K), of each image and class the pixels that are right, labelled and predicted.
"""

from __future__ import annotations

import dataclasses

import numpy as np


def ious(counts: np.ndarray) -> np.ndarray:
    """float (..., K): IoU of each class from counts (..., 3, K); nan where there is neither label nor prediction."""
    right, labelled, predicted = np.moveaxis(np.asarray(counts, np.float64), -2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return right / (labelled + predicted - right)


def mean_iou(counts: np.ndarray) -> np.ndarray:
    """The mean over the classes that occur."""
    found = ious(counts)
    exists = ~np.isnan(found)
    total, number = np.where(exists, found, 0).sum(-1), exists.sum(-1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def accuracy(counts: np.ndarray) -> np.ndarray:
    """Pixel accuracy; nan without labels."""
    right, labelled, _ = np.moveaxis(np.asarray(counts, np.float64), -2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return right.sum(-1) / labelled.sum(-1)


def interval(counts: np.ndarray, *, level: float = 0.95, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The interval of mIoU in which it lies for `level` of the sets of as many images, drawn with replacement."""
    found = _resampled(counts, _draws(len(counts), draws, seed))
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """difference: mIoU of the second less that of the first run, with its interval of 95 %. chance: how often at least
    such a difference comes about when the results of each image are given to either run by a coin.
    classes: difference in IoU of each class. images: in pixel accuracy of each image.
    """

    difference: float
    interval: tuple[float, float]
    chance: float
    classes: np.ndarray
    images: np.ndarray


def compare(first: np.ndarray, second: np.ndarray, *, draws: int = 1000, seed: int = 0) -> Comparison:
    """Two runs on the same images, in the same order."""
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
    """int (draws, count): how often each image is in each draw."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1 / count), size=draws)


def _resampled(counts: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    sums = chosen @ counts.reshape(len(counts), -1).astype(np.int64)
    return mean_iou(sums.reshape(len(chosen), *counts.shape[1:]))
