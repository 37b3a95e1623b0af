"""Validation between training steps: scores of a split, and its first images beside the ground truth."""

import dataclasses

import numpy as np
from jax.sharding import Mesh

from openseg_jax import models, sharding, visualize
from openseg_jax.config import Config
from openseg_jax.data.normalize import Normalization
from openseg_jax.inference import Item, Runner
from openseg_jax.inference.tasks import task_of
from openseg_jax.labels.classes import ClassTable
from openseg_jax.metrics.confusion import Confusion


@dataclasses.dataclass(frozen=True)
class Validated:
    """What a validation found. SegFix has neither a confusion matrix nor classes."""

    scores: dict[str, float]  # those that are one number, as fractions
    images: list[tuple[str, np.ndarray]]  # names and uint8 (H, W', 3) RGB: the prediction beside the ground truth
    confusion: np.ndarray | None = None  # int64 (K, K)
    classes: tuple[tuple[str, float, float, int], ...] = ()  # (name, IoU, accuracy, pixels) of each class


class Validation:
    """Scores a net on the validation split. It is made once and compiles once per bucket, for any number of runs."""

    def __init__(
        self,
        model: models.Segmentor,
        config: Config,
        source,
        classes: ClassTable,
        normalization: Normalization,
        mesh: Mesh,
    ):
        self._task, self._shown = (
            task_of(model, classes, config.loss.segfix, config.eval.left_out),
            config.train.log_images,
        )
        self._runner = Runner(model, source, config.eval, self._task.readers, normalization, mesh)
        self.main_score, self.images = self._task.score().main_score, len(source)

    def run(self, variables: dict) -> Validated:
        """Runs the net over the split; all processes must do it at the same step."""
        score, shown = self._task.score(), {}
        for item in self._runner.run(variables):
            score.update(item)
            if item.index < self._shown:
                shown[item.index] = item.name, self._compared(item)
        score = score.merge(sharding.exchange)
        found = Validated(score.summary(), [shown[index] for index in sorted(shown)])
        if not isinstance(score, Confusion):
            return found
        result, pixels = score.result(), score.matrix.sum(1).tolist()
        rows = zip(self._task.classes.names, result["iou"], result["accuracy"], pixels, strict=True)
        return dataclasses.replace(found, confusion=score.matrix, classes=tuple(rows))

    def _compared(self, item: Item) -> np.ndarray:
        image, classes = item.sample["image"], self._task.classes
        pair = (visualize.overlay(image, labels, classes) for labels in (item["labels"], self._task.truth(item.sample)))
        return visualize.side_by_side(*pair)
