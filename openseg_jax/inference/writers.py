"""The files of a predicted label map."""

from pathlib import Path

import numpy as np

from openseg_jax import visualize
from openseg_jax.data.images import write_image, write_mask
from openseg_jax.labels.classes import ClassTable
from openseg_jax.results import child


def prediction_files(out: Path, name: str) -> tuple[Path, Path, Path]:
    """Returns OUT/label/NAME.png, OUT/overlay/NAME.jpg and OUT/color/NAME.png, which `write_prediction` writes."""
    folders = (("label", ".png"), ("overlay", ".jpg"), ("color", ".png"))
    label, overlay, color = (child(out / folder, name, suffix) for folder, suffix in folders)
    return label, overlay, color


def write_prediction(
    out: Path, name: str, ids: np.ndarray, classes: ClassTable, image: np.ndarray, truth: np.ndarray | None = None
) -> None:
    """Writes the label map with ids as masks of the data set have them, its colours, and both over the image.

    ids: uint8 (H, W), the predicted train ids. image: uint8 (H, W, 3), RGB. truth: uint8 (H, W), the true train ids,
    whose overlay stands beside that of the prediction.
    """
    label, overlay, color = prediction_files(out, name)
    write_mask(label, classes.decode(ids), mask_palette(classes))
    overlays = [visualize.overlay(image, x, classes) for x in (ids, truth) if x is not None]
    write_image(overlay, visualize.side_by_side(*overlays))
    write_image(color, visualize.colorize(ids, classes))


def mask_palette(classes: ClassTable) -> np.ndarray:
    """Returns the colour of each id of a mask, uint8 (256, 3) RGB."""
    palette = np.zeros((256, 3), np.uint8)
    palette[list(classes.ids)] = classes.colors
    return palette
