"""Cityscapes' own evaluation of the label PNGs that an evaluation wrote, by the package cityscapesScripts."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

from openseg_jax.errors import InputError


def official_scores(predictions: Sequence[Path], truths: Sequence[Path]) -> dict[str, float]:
    """Returns miou and category_miou of label PNGs with Cityscapes' ids 0 to 33, as its benchmark computes them."""
    try:
        import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as official  # noqa: N813
    except ImportError as error:
        raise InputError(
            "Cityscapes' own scores need the package cityscapesScripts: pip install 'openseg_jax[cityscapes]'"
        ) from error
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
