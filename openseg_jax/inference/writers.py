"""The files of a predicted label map."""

from pathlib import Path

import numpy as np

from openseg_jax import visualize
from openseg_jax.data.images import write_image, write_mask
from openseg_jax.labels.classes import ClassTable


def write_prediction(
    out: Path, name: str, ids: np.ndarray, classes: ClassTable, image: np.ndarray, truth: np.ndarray | None = None
) -> None:
    """Writes OUT/label/NAME.png with ids as masks of the data set have them, OUT/color/NAME.png, OUT/overlay/NAME.jpg.

    ids: uint8 (H, W), the predicted train ids. image: uint8 (H, W, 3), RGB. truth: uint8 (H, W), the true train ids,
    whose overlay stands beside that of the prediction.
    """
    palette = np.zeros((256, 3), np.uint8)
    palette[list(classes.ids)] = classes.colors
    write_mask(out / "label" / f"{name}.png", classes.decode(ids), palette)
    overlays = [visualize.overlay(image, x, classes) for x in (ids, truth) if x is not None]
    write_image(out / "overlay" / f"{name}.jpg", visualize.side_by_side(*overlays))
    write_image(out / "color" / f"{name}.png", visualize.colorize(ids, classes))
