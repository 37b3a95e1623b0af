"""What a net is scored by in validation: which readers, which score, and what its predictions are compared with."""

import dataclasses

import numpy as np

from openseg_jax import models
from openseg_jax.config import SegFixSettings
from openseg_jax.inference.readers import ArgMax, ConfusionCounts, DirectionCounts, Reader
from openseg_jax.labels.classes import ClassTable
from openseg_jax.labels.directions import within
from openseg_jax.metrics.accumulator import Accumulator
from openseg_jax.metrics.confusion import Confusion
from openseg_jax.metrics.directions import Directions

_BOUNDARIES = {"title": "boundaries", "classes": [{"name": "interior"}, {"name": "boundary", "color": [255, 200, 0]}]}


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """Label maps, scored by confusion matrices. classes: Of the labels and of the predictions item["labels"]."""

    classes: ClassTable
    main_score = Confusion.main_score

    def readers(self) -> dict[str, Reader]:
        return {"labels": ArgMax(), "counts": ConfusionCounts(len(self.classes))}

    def score(self) -> Accumulator:
        return Confusion(len(self.classes))

    def truth(self, sample: dict) -> np.ndarray:
        """Returns what the prediction for a sample should be, uint8 (H, W), 255 where nothing is."""
        return sample["label"]


@dataclasses.dataclass(frozen=True)
class BoundaryDetection:
    """Boundary masks item["labels"], 1 on boundaries, and directions, scored by `Directions`."""

    settings: SegFixSettings
    classes = ClassTable.from_dict(_BOUNDARIES, "boundaries")
    main_score = Directions.main_score

    def readers(self) -> dict[str, Reader]:
        counts = DirectionCounts(self.settings)
        return {"labels": ArgMax("mask"), "direction": ArgMax("direction"), "counts": counts}

    def score(self) -> Accumulator:
        return Directions()

    def truth(self, sample: dict) -> np.ndarray:
        """Returns what the mask of a sample should be, uint8 (H, W), 255 where nothing is."""
        near = within(sample["distance"], self.settings.min_distance, self.settings.max_distance)
        return np.where(sample["label"] == 255, 255, near).astype(np.uint8)


def task_of(model: models.Segmentor, classes: ClassTable, segfix: SegFixSettings) -> Segmentation | BoundaryDetection:
    """Returns what a net of `classes`, or a SegFix net trained with `segfix`, is scored by."""
    if model.head is not None and not model.head.needs_classes:
        return BoundaryDetection(segfix)
    return Segmentation(classes)
