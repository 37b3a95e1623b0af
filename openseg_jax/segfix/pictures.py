"""Pictures of what SegFix does: where it finds boundaries, which way it points there, and what that changes."""

from __future__ import annotations

import cv2
import numpy as np

from openseg_jax.visualize import side_by_side

_BOUNDARY, _ARROW, _CHANGED = (255, 140, 0), (255, 255, 255), (255, 0, 200)  # RGB


def direction_field(image: np.ndarray, offsets: np.ndarray, *, every: int = 6, enlarge: int = 5) -> np.ndarray:
    """The picture, each pixel a square of `enlarge`, its boundary in orange, with arrows the way of the offsets.

    image: uint8 (H, W, 3) RGB; offsets: int (H, W, 2), (down, right), 0 off boundaries. -> uint8 (H', W', 3), RGB.
    There is an arrow at every `every`-th pixel of a row and of a column that is boundary, nearly that long.
    """
    boundary = (offsets != 0).any(-1)
    picture = enlarged(_tinted(image, boundary, _BOUNDARY, 0.45), enlarge)
    for y, x in np.argwhere(boundary[every // 2 :: every, every // 2 :: every]) * every + every // 2:
        step = offsets[y, x] / np.abs(offsets[y, x]).max() * (0.8 * every)
        start, end = (((np.array([x, y]) + half + 0.5) * enlarge).astype(int) for half in (0, step[::-1]))
        cv2.arrowedLine(picture, start.tolist(), end.tolist(), _ARROW, 1, cv2.LINE_AA, tipLength=0.35)
    return picture


def changes(
    image: np.ndarray, before: np.ndarray, after: np.ndarray, colors: np.ndarray, *, enlarge: int = 5
) -> np.ndarray:
    """Three pictures beside each other, uint8 RGB: labels before, labels after, and in pink the pixels that differ.

    image: uint8 (H, W, 3) RGB; before, after: int (H, W), rows of `colors`, uint8 (K, 3) RGB.
    """
    labelled = [_mixed(image, colors[ids], 0.6) for ids in (before, after)]
    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=-1)
    difference = _tinted(grey, before != after, _CHANGED, 1)
    return side_by_side(*(enlarged(picture, enlarge) for picture in (*labelled, difference)))


def most_changed_window(changed: np.ndarray, size: tuple[int, int] = (64, 96)) -> tuple[slice, slice]:
    """Rows and columns of the window of this (height, width), or of the whole, where most of a mask (H, W) is set."""
    height, width = np.minimum(size, changed.shape).tolist()
    sums = cv2.integral(changed.astype(np.uint8))
    counts = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    y, x = map(int, np.unravel_index(counts.argmax(), counts.shape))
    return slice(y, y + height), slice(x, x + width)


def enlarged(picture: np.ndarray, times: int) -> np.ndarray:
    """Each pixel as a square."""
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def _tinted(picture: np.ndarray, mask: np.ndarray, color: tuple[int, int, int], opacity: float) -> np.ndarray:
    return np.where(mask[..., None], _mixed(picture, np.array(color), opacity), picture)


def _mixed(picture: np.ndarray, colors: np.ndarray, opacity: float) -> np.ndarray:
    return (picture * (1 - opacity) + colors * opacity).astype(np.uint8)
