"""How well predictions meet the boundaries of classes: boundary F-score and boundary IoU."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from openseg_jax.metrics.accumulator import Accumulator
from openseg_jax.metrics.confusion import mean, ratio


def boundary(mask: np.ndarray) -> np.ndarray:
    """Returns bool (H, W), where a mask differs from its right, lower or lower right neighbour.

    The last row looks to the right only, the last column down only, as in the original.
    """
    mask = mask.astype(bool)
    result = np.zeros_like(mask)
    result[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    result[:-1] |= mask[:-1] != mask[1:]
    result[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return result


def f_scores(
    prediction: np.ndarray, truth: np.ndarray, num_classes: int, *, tolerance: float = 0.00088, ignore: int = 255
) -> np.ndarray:
    """Returns the boundary F-score of each class in one image, float64 (K,), as the original's F1RunningScore has it.

    It is the harmonic mean of precision, the share of the predicted boundary within the tolerance of a true one, and
    recall, the other way round. Ignored pixels belong to no class. A class without a boundary in either map is nan; the
    original counts it as 1, which raises means.

    Args:
        prediction: int (H, W).
        truth: int (H, W).
        num_classes: K.
        tolerance: Pixels if at least 1, else a share of the diagonal, rounded up.
        ignore: The label that does not count.
    """
    if tolerance < 1:
        tolerance = math.ceil(tolerance * math.hypot(*truth.shape))
    radius = int(tolerance)
    offsets = np.arange(-radius, radius + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)
    valid = truth != ignore
    result = np.zeros(num_classes)
    for k in range(num_classes):
        edges = [boundary((x == k) & valid) for x in (prediction, truth)]
        counts = [np.count_nonzero(e) for e in edges]
        if 0 in counts:  # precision or recall is then 1 and the other 0
            result[k] = np.nan if counts == [0, 0] else 0.0
            continue
        near = [cv2.dilate(e.astype(np.uint8), disk, borderType=cv2.BORDER_CONSTANT, borderValue=0) for e in edges]
        precision, recall = (np.count_nonzero(edges[i] & (near[1 - i] > 0)) / counts[i] for i in (0, 1))
        result[k] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return result


def boundary_regions(
    prediction: np.ndarray, truth: np.ndarray, num_classes: int, *, share: float = 0.02, ignore: int = 255
) -> np.ndarray:
    """Returns intersection and union of the boundary regions of each class in one image, int64 (K, 2).

    For boundary IoU (Cheng et al., CVPR 2021, arXiv:2103.16562), only the pixels of a mask within `share` of the
    diagonal from its contour count. Sum over images before dividing.
    """
    distance = max(1, round(share * math.hypot(*truth.shape)))
    valid = truth != ignore
    result = np.zeros((num_classes, 2), np.int64)
    for k in range(num_classes):
        a, b = (_rim((x == k) & valid, distance) for x in (prediction, truth))
        result[k] = np.count_nonzero(a & b), np.count_nonzero(a | b)
    return result


def _rim(mask: np.ndarray, distance: int) -> np.ndarray:
    """Returns what `distance` erosions by a 3x3 square take away from a mask; beyond the image is nothing."""
    padded = np.pad(mask.astype(np.uint8), 1)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1]
    return mask & (inner == 0)


class Boundaries(Accumulator):
    """Keeps the boundary scores of each image."""

    main_score = "boundary_f_score"

    def __init__(self, num_classes: int, images: int, name: str = "labels", left_out: Sequence[int] = ()):
        """Begins without images.

        name: The reader of the label maps that are scored. left_out: The places of classes that do not count in means.
        """
        self._name, self._left_out = name, left_out
        self.sums = {"images": np.zeros((images, num_classes, 3)), "scored": np.zeros(images, np.int32)}

    @property
    def f(self) -> np.ndarray:
        """float64 (images, K), the F-scores of the images that were scored; nan for a class that an image lacks."""
        return self.sums["images"][self.sums["scored"] > 0, :, 0]

    def update(self, item) -> None:
        pair = item[self._name], item.sample["label"], self.sums["images"].shape[1]
        self.sums["images"][item.index] = np.column_stack([f_scores(*pair), boundary_regions(*pair)])
        self.sums["scored"][item.index] = 1

    def result(self) -> dict[str, float]:
        """Returns the means over the classes that occur: of the mean F-score over images, and of boundary IoU."""
        inside, union = self.sums["images"][..., 1:].sum(0).T
        f, iou = (np.delete(values, self._left_out) for values in (mean(self.f.T), ratio(inside, union)))
        return {"boundary_f_score": float(mean(f)), "boundary_iou": float(mean(iou))}
