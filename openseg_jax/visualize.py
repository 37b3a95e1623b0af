"""Class ids as colours, and over images."""

import numpy as np

from openseg_jax.labels.classes import ClassTable


def colorize(ids: np.ndarray, classes: ClassTable) -> np.ndarray:
    """Returns train ids, uint8 (H, W), as colours, uint8 (H, W, 3) RGB; ignored pixels are black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(classes)] = classes.colors
    return palette[ids]


def overlay(image: np.ndarray, ids: np.ndarray, classes: ClassTable, opacity: float = 0.55) -> np.ndarray:
    """Returns an image, uint8 (H, W, 3) RGB, with its classes, uint8 (H, W), over it."""
    mixed = image * (1 - opacity) + colorize(ids, classes).astype(np.float32) * opacity
    return mixed.astype(np.uint8)


def side_by_side(*images: np.ndarray, gap: int = 6) -> np.ndarray:
    """Returns images of one height, uint8 (H, W, 3), in a row with white gaps."""
    white = np.full((images[0].shape[0], gap, 3), 255, np.uint8)
    return np.concatenate([part for image in images for part in (white, image)][1:], axis=1)
