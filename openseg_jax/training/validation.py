"""Validation between training steps: scores of the validation split, and its first images beside the ground truth."""

from __future__ import annotations

import dataclasses

import numpy as np
from jax.sharding import Mesh

from openseg_jax import models, visualize
from openseg_jax.config import Config
from openseg_jax.data.normalize import Normalization
from openseg_jax.evaluation import make_evaluator
from openseg_jax.labels.classes import ClassTable
from openseg_jax.metrics.confusion import scores


@dataclasses.dataclass(frozen=True)
class Validated:
    """What a validation found.

    Attributes:
        scores: Scores that are one number, as fractions.
        confusion: int64 (K, K), or None for SegFix.
        classes: (name, IoU, accuracy, pixels) of each class, with a confusion matrix.
        images: Name and uint8 (H, W', 3) RGB of the first images: the prediction, and beside it the ground truth.
    """

    scores: dict[str, float]
    confusion: np.ndarray | None
    classes: list[tuple]
    images: list[tuple[str, np.ndarray]]


class Validation:
    def __init__(self, model, config: Config, source, classes: ClassTable, normalization: Normalization, mesh: Mesh):
        self._evaluator = make_evaluator(model, config, source, normalization, mesh)
        self.main_score = self._evaluator.main_score
        self._shown, self._source = config.train.log_images, source
        self._classes = self._evaluator.classes or classes

    def __len__(self) -> int:
        return len(self._source)

    def run(self, variables: dict) -> Validated:
        kept = {}
        found = self._evaluator.run(
            variables, on_prediction=lambda i, ids: kept.__setitem__(i, ids.copy()), first=self._shown
        )
        classes, confusion = [], None
        if found.shape[0] == found.shape[1]:
            confusion, s = found, scores(found)
            classes = [*zip(self._classes.names, s["iou"], s["accuracy"], found.sum(1).tolist(), strict=True)]
        images = []
        for index, ids in sorted(kept.items()):
            sample = self._source[index]
            pair = (ids, self._evaluator.truth(sample))
            images.append(
                (
                    sample["name"],
                    visualize.side_by_side(*(visualize.overlay(sample["image"], x, self._classes) for x in pair)),
                )
            )
        return Validated(self._evaluator.summary(found), confusion, classes, images)
