"""Scores as the original's own evaluators give them where those differ from ours, to compare with its logs."""

from __future__ import annotations

import numpy as np

from openseg_jax.labels.classes import ClassTable
from openseg_jax.metrics.confusion import scores


def legacy_scores(
    confusion: np.ndarray, boundaries: np.ndarray | None, pixels: int, classes: ClassTable
) -> dict[str, float]:
    """confusion: (K, K). boundaries: (images, K), F-scores, nan for a class that an image lacks. pixels: of all images.

    pixel_accuracy: of all pixels, ignored ones included, as its script for Cityscapes prints.
    boundary_f_score: classes that an image lacks count as 1 in it (F1RunningScore).
    miou: for COCO-Stuff that of its script, which takes the last class for no label, and predictions of it for a class
    of their own that is always wrong.
    """
    found = {"pixel_accuracy": float(np.trace(confusion) / pixels)}
    if boundaries is not None:
        found["boundary_f_score"] = float(np.nan_to_num(boundaries, nan=1.0).mean())
    if classes.title.startswith("COCO-Stuff"):
        shifted = np.zeros_like(confusion)
        shifted[1:, 1:] = confusion[:-1, :-1]
        shifted[1:, 0] = confusion[:-1, -1]
        found["miou"] = scores(shifted)["miou"]
    return found
