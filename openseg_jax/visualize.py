"""Class ids as colours, and overlays on the photograph."""

from __future__ import annotations

import numpy as np

from openseg_jax.labels.classes import IGNORE, ClassTable


def colorize(ids: np.ndarray, classes: ClassTable) -> np.ndarray:
    """uint8 (H, W) train ids -> uint8 (H, W, 3) RGB; ignored pixels are black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(classes)] = classes.colors
    palette[IGNORE] = 0
    return palette[ids]


def overlay(image: np.ndarray, ids: np.ndarray, classes: ClassTable, opacity: float = 0.55) -> np.ndarray:
    """The picture with the classes over it, uint8 (H, W, 3) RGB."""
    mixed = image * (1 - opacity) + colorize(ids, classes).astype(np.float32) * opacity
    return mixed.astype(np.uint8)


def side_by_side(*pictures: np.ndarray, gap: int = 6) -> np.ndarray:
    """Pictures of one height in a row, uint8 RGB, with white gaps."""
    white = np.full((pictures[0].shape[0], gap, 3), 255, np.uint8)
    row = [part for picture in pictures for part in (white, picture)][1:]
    return np.concatenate(row, axis=1)
