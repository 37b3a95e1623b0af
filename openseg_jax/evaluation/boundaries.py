"""How well boundaries and directions are predicted, for SegFix."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax import models
from openseg_jax.errors import InputError
from openseg_jax.evaluation.inference import Evaluator, normalized
from openseg_jax.labels.classes import ClassTable
from openseg_jax.labels.directions import quantize, within
from openseg_jax.models import resize
from openseg_jax.models.layers import Canvas


class BoundaryEvaluator(Evaluator):
    """Counts correct pixels of a SegFix net. Its predictions are the boundary masks, 1 on boundaries.

    boundary: the `loss.segfix` part of a config.
    """

    main_score = "direction_accuracy"
    classes = ClassTable.from_dict(
        {"title": "boundaries", "classes": [{"name": "interior"}, {"name": "boundary", "color": [255, 200, 0]}]},
        "boundaries",
    )
    maps = ("distance", "angle")

    def __init__(self, model, config, source, normalization, mesh, boundary):
        self._boundary = boundary
        super().__init__(model, config, source, normalization, mesh)

    def summary(self, counts: np.ndarray) -> dict[str, float]:
        """mask_accuracy: of interior or boundary. direction_accuracy: on true boundaries, where a pixel that is not
        predicted as boundary is wrong; direction_accuracy_predicted: on predicted boundaries. mask_precision and
        mask_recall: of the boundary pixels, predicted and true; mask_f_score: of both.
        """
        names = ("mask_accuracy", "direction_accuracy", "direction_accuracy_predicted", "mask_precision", "mask_recall")
        found = {name: float(right / max(total, 1)) for name, (right, total) in zip(names, counts, strict=True)}
        (right, predicted), (_, true) = counts[3:]
        return found | {"mask_f_score": float(2 * right / max(predicted + true, 1))}

    def truth(self, sample: dict) -> np.ndarray:
        near = within(sample["distance"], self._boundary.min_distance, self._boundary.max_distance)
        return np.where(sample["label"] == 255, 255, near).astype(np.uint8)

    def _count(self, variables: dict, batch: dict) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """counts: int32 (5, 2) pixels that are right, and all that count, of each score."""
        images = normalized(batch, self._normalization)
        outputs = models.apply(self._model, variables, images, sizes=batch["size"], maps=True)
        own_size = Canvas(*batch["label"].shape[1:], batch["label_size"])
        mask, direction = (
            jnp.argmax(resize.cubic(outputs[name], to=own_size).values, axis=-1) for name in ("mask", "direction")
        )
        b, num_directions = self._boundary, outputs["direction"].shape[-1]
        valid = batch["label"] != 255
        truth = within(batch["distance"], b.min_distance, b.max_distance)
        sector = quantize(batch["angle"], num_directions, shifted=num_directions == 4 and not b.align_axis)
        found = mask == 1
        counted = [(valid, found == truth), (valid & truth, found & (direction == sector)),
                   (valid & found, direction == sector), (valid & found, truth), (valid & truth, found)]  # fmt: skip
        counts = jnp.stack([jnp.stack([jnp.sum(of & right), jnp.sum(of)]) for of, right in counted])
        totals = {"counts": counts.astype(jnp.int32), "index": batch["index"]}
        return totals, {"prediction": mask.astype(jnp.uint8)}

    def _check(self, model: models.Segmentor, config) -> None:
        if model.head is None or model.head.needs_classes:
            raise InputError(f"{model.spec.name} predicts no boundaries")
        if config.min_side or config.size:
            raise InputError("the maps of boundaries are not resized: leave out eval.min_side and eval.size")
