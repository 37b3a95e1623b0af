"""The ground truth of SegFix: each pixel's distance to the boundary of its segment, and the direction away from it.

The rules are those of the original's preparation scripts (Yuan et al., ECCV 2020, arXiv:2007.04269, section 3.2), and
so is the precision, which is that of its files: whole pixels up to 250, and steps of 2 degrees.
"""

from collections.abc import Collection

import cv2
import numpy as np
import scipy.ndimage

from openseg_jax.labels.directions import gradient_kernels

MAX_DISTANCE = 250  # pixels; larger distances are clipped to it
ANGLE_STEP = 2  # degrees


def semantic_offsets(
    label: np.ndarray, *, min_pixels: int = 100, kernel_size: int = 5, metric: str = "euclidean", ignore: int = 255
) -> dict[str, np.ndarray]:
    """Computes distances and angles within the classes of a label map.

    Args:
        label: uint8 (H, W), train ids.
        min_pixels: Smaller classes count as boundary.
        kernel_size: The size of the kernels whose gradient gives the angle, see `gradient_kernels`.
        metric: "euclidean" or "taxicab".
        ignore: The id of void.

    Returns:
        "distance", int32 (H, W): pixels to the nearest pixel of another class or of void, rounded down. The frame of
        the image is no boundary.
        "angle", float64 (H, W): degrees, the direction in which the distance grows.
        Both are 0 on void and on classes that are too small.
    """
    small = np.flatnonzero(np.bincount(label.ravel()) < min_pixels)
    return _offsets(label.astype(np.int32), {ignore, *map(int, small)}, kernel_size, metric)


def instance_offsets(
    instances: np.ndarray, class_ids: Collection[int], *, kernel_size: int = 5, metric: str = "euclidean"
) -> dict[str, np.ndarray]:
    """Computes distances and angles within the instances of a map of instance ids as Cityscapes has them.

    Args:
        instances: uint16 (H, W). Ids from 256 on are single instances; those below are classes by their ids on disk.
        class_ids: All other ids below 256 together are one segment, void.
        kernel_size: See `semantic_offsets`.
        metric: See `semantic_offsets`.

    Returns:
        What `semantic_offsets` returns, but void has distances too, and segments count however small they are.
    """
    segments = np.arange(1 << 16, dtype=np.int32)
    segments[:256][~np.isin(segments[:256], list(class_ids))] = 255
    return _offsets(segments[instances], set(), kernel_size, metric)


def _offsets(segments: np.ndarray, left_out: set[int], kernel_size: int, metric: str) -> dict[str, np.ndarray]:
    """Computes both within the segments of a map, int32 (H, W), but for those that are left out, which get 0."""
    distance, down, right = np.zeros((3, *segments.shape), np.float32)
    kernels = gradient_kernels(kernel_size)
    for segment, sides in enumerate(scipy.ndimage.find_objects(segments + 1)):
        if sides is None or segment in left_out:
            continue
        # The nearest pixel outside a segment is never farther from it than the frame of one pixel around its box.
        box = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in sides)
        mask = (segments[box] == segment).astype(np.uint8)
        inside = _distance_inside(mask, metric)
        cv2.copyTo(inside, mask, distance[box])
        for gradient, kernel in zip((down, right), kernels, strict=True):
            # As in the original, zeros lie beyond the image, which makes directions at its frame point inwards.
            slope = cv2.filter2D(inside, cv2.CV_32F, kernel, borderType=cv2.BORDER_CONSTANT)
            cv2.copyTo(slope, mask, gradient[box])
    angle = np.degrees(np.arctan2(down, right))
    return {
        "distance": np.minimum(distance, MAX_DISTANCE).astype(np.int32),
        "angle": np.floor((angle + 180) / ANGLE_STEP).astype(np.float64) * ANGLE_STEP - 180,
    }


def _distance_inside(mask: np.ndarray, metric: str) -> np.ndarray:
    """Returns the distance of each pixel of a mask, uint8 (H, W), to the nearest pixel outside, float32 (H, W)."""
    if mask.all():
        # Nothing is outside. SciPy, which the original uses, then measures from a pixel above the upper left corner.
        y, x = np.indices(mask.shape, np.float32)
        return np.hypot(y + 1, x) if metric == "euclidean" else y + 1 + x
    if metric == "taxicab":
        return cv2.distanceTransform(mask, cv2.DIST_L1, 3)
    return cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
