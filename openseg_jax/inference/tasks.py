"""What a net is scored by in validation: which readers, which score, and what its predictions are compared with."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

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


class Task(NamedTuple):
    """Label maps item["labels"] of `classes`, or boundary masks, and how they are scored.

    readers: What the score takes. score: Makes a score without images. truth: From a sample to what its prediction
    should be, uint8 (H, W), 255 where nothing is.
    """

    classes: ClassTable
    readers: dict[str, Reader]
    score: Callable[[], Accumulator]
    truth: Callable[[dict], np.ndarray]


def task_of(model: models.Segmentor, classes: ClassTable, segfix: SegFixSettings, left_out: Sequence[str] = ()) -> Task:
    """Returns what a net of `classes`, or a SegFix net trained with `segfix`, is scored by.

    left_out: The names of classes that do not count in means.
    """
    if model.head is None or model.head.needs_classes:
        readers = {"labels": ArgMax(), "counts": ConfusionCounts(len(classes))}
        score = functools.partial(Confusion, len(classes), left_out=classes.places(left_out))
        return Task(classes, readers, score, operator.itemgetter("label"))
    readers = {"labels": ArgMax("mask"), "direction": ArgMax("direction"), "counts": DirectionCounts(segfix)}
    classes = ClassTable.from_dict(_BOUNDARIES, "boundaries")
    return Task(classes, readers, Directions, functools.partial(_near_boundaries, segfix))


def _near_boundaries(segfix: SegFixSettings, sample: dict) -> np.ndarray:
    near = within(sample["distance"], segfix.min_distance, segfix.max_distance)
    return np.where(sample["label"] == 255, 255, near).astype(np.uint8)
