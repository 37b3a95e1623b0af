"""Scores as others compute them: the original's own evaluators where they differ, and the package cityscapesScripts."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable
from openseg_jax.metrics.confusion import scores


def legacy_scores(
    confusion: np.ndarray, boundaries: np.ndarray | None, pixels: int, classes: ClassTable
) -> dict[str, float]:
    """Returns the scores that the original's evaluators give otherwise, to compare with its logs.

    They are pixel_accuracy of all pixels, ignored ones included, as its script for Cityscapes prints; boundary_f_score,
    in which classes that an image lacks count as 1 (F1RunningScore); for COCO-Stuff the miou of its script, which
    takes the last class for no label, and predictions of it for a class of their own that is always wrong.

    Args:
        confusion: int (K, K).
        boundaries: float (images, K), the F-scores, nan for a class that an image lacks; None if there are none.
        pixels: The number of pixels of all images.
        classes: K classes.
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


def official_scores(predictions: Sequence[Path], truths: Sequence[Path]) -> dict[str, float]:
    """Returns miou and category_miou of label PNGs with Cityscapes' ids 0 to 33, as its benchmark computes them."""
    try:
        import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as official  # noqa: N813
    except ImportError as error:
        how = "pip install 'openseg_jax[cityscapes]'"
        raise InputError(f"Cityscapes' own scores need the package cityscapesScripts: {how}") from error
    arguments = official.args
    arguments.evalInstLevelScore = arguments.JSONOutput = False  # instances are files of their own
    arguments.quiet = True
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            found = official.evaluateImgLists(list(map(str, predictions)), list(map(str, truths)), arguments)
    except SystemExit as error:  # how it reports a fault
        raise InputError(f"cityscapesScripts: {said.getvalue().strip()}") from error
    return {"miou": found["averageScoreClasses"], "category_miou": found["averageScoreCategories"]}
