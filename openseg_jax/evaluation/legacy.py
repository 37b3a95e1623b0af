"""Scores of the original's own evaluators where these differ from ours, to compare with its logs."""

import numpy as np

from openseg_jax.labels.classes import ClassTable
from openseg_jax.metrics.confusion import scores


def legacy_scores(
    confusion: np.ndarray, boundaries: np.ndarray | None, pixels: int, classes: ClassTable
) -> dict[str, float]:
    """Returns the scores that its evaluators give otherwise.

    Args:
        confusion: int (K, K).
        boundaries: float (images, K), the F-scores, nan for a class that an image lacks; None if there are none.
        pixels: The number of pixels of all images.
        classes: K classes.

    Returns:
        pixel_accuracy of all pixels, ignored ones included, as its script for Cityscapes prints; boundary_f_score, in
        which classes that an image lacks count as 1 (F1RunningScore); for COCO-Stuff the miou of its script, which
        takes the last class for no label, and predictions of it for a class of their own that is always wrong.
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
