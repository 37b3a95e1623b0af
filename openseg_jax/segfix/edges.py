"""Boundaries as masks, and label maps without what is at boundaries or off them: the original's edge files."""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np
import scipy.ndimage

EDGE, VOID = 255, 255  # in edge masks, in label maps


def semantic_edges(label: np.ndarray, *, width: int = 10) -> np.ndarray:
    """uint8 (H, W), 255 around boundaries, of a map of ids (H, W), in which 255 makes none.

    A pixel is at a boundary if it differs from the one above it, to its right, to its lower right or lower left; it
    is widened to a square of `width` pixels, of which an even one reaches a pixel farther down and right. The original
    takes ids on disk, so that there are edges between classes and void too.
    """
    return _widened(_edges(label), width)


def instance_edges(
    instances: np.ndarray, class_ids: Collection[int], *, width: int = 10, min_pixels: int = 3600
) -> np.ndarray:
    """uint8 (H, W), 255 around boundaries of the instances (id 1000 * class + number) of `class_ids`, uint16 (H, W).

    Those of fewer than `min_pixels` pixels are left out.
    """
    edges = np.zeros(instances.shape, bool)
    sizes = np.bincount(instances.ravel())
    boxes = scipy.ndimage.find_objects(instances.astype(np.int32))
    for instance in np.flatnonzero(sizes >= max(min_pixels, 1)):
        if instance >= 1000 and instance // 1000 in class_ids:
            box = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in boxes[instance - 1])
            edges[box] |= _edges(instances[box] == instance)
    return _widened(edges, width)


def void_at_edges(label: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The label map with void (255) at edges, for scores of what is inside classes only."""
    return np.where(edges == EDGE, VOID, label).astype(label.dtype)


def void_off_edges(label: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The label map with void (255) off edges, for scores of boundaries only."""
    return np.where(edges == EDGE, label, VOID).astype(label.dtype)


def _edges(label: np.ndarray) -> np.ndarray:
    """bool (H, W): one pixel of each pair of neighbours with different ids."""
    edges = np.zeros(label.shape, bool)
    rest, but_last = slice(1, None), slice(None, -1)
    pairs = (
        ((rest, ...), (but_last, ...)),  # above
        ((..., but_last), (..., rest)),  # to the right
        ((but_last, but_last), (rest, rest)),  # to the lower right
        ((but_last, rest), (rest, but_last)),  # to the lower left
    )
    for marked, other in pairs:
        here, there = label[marked], label[other]
        edges[marked] |= (here != there) & (here != VOID) & (there != VOID)
    return edges


def _widened(edges: np.ndarray, width: int) -> np.ndarray:
    return cv2.dilate(edges.astype(np.uint8) * EDGE, np.ones((width, width), np.uint8))
