"""From a SegFix net to offsets: for each pixel near a boundary, the step to an interior pixel of what it belongs to."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from openseg_jax import models
from openseg_jax.errors import InputError
from openseg_jax.evaluation.inference import Evaluator, normalized
from openseg_jax.labels.directions import offsets
from openseg_jax.models import resize
from openseg_jax.models.layers import Canvas, FeatureMap

MASK_THRESHOLD = 0.5


class OffsetPredictor(Evaluator):
    """Runs a SegFix net over a source of images. Its predictions are int8 (H, W, 2), steps (down, right), 0 off
    boundaries, at the images' own sizes.

    config: the `eval` part of a config; its protocol is "single" or "crops", whose windows' probabilities of being
    boundary, and logits of directions, are averaged. align_axis: whether the four directions of a net of four are
    along the axes.
    """

    def __init__(self, model, config, source, normalization, mesh, *, align_axis: bool = False):
        self._align_axis = align_axis
        super().__init__(model, config, source, normalization, mesh)

    def _count(self, variables: dict, batch: dict) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        def net(x: FeatureMap) -> FeatureMap:
            found = models.apply(self._model, variables, x.values, sizes=x.extent, maps=True)
            mask = found["mask"].replace(jax.nn.softmax(found["mask"].values, axis=-1)).zero_outside()
            parts = [resize.bilinear(m, to=x.canvas, align_corners=True) for m in (mask, found["direction"])]
            return x.replace(jnp.concatenate([part.values for part in parts], axis=-1))

        images = FeatureMap(normalized(batch, self._normalization), batch["net_size"])
        found = self._protocol.logits(net, images)
        boundary, directions = found.values[..., 1] > MASK_THRESHOLD, found.values[..., 2:]
        count = directions.shape[-1]
        index = jnp.where(boundary, jnp.argmax(directions, axis=-1), -1)
        steps = offsets(index, count, shifted=count == 4 and not self._align_axis)
        cut = FeatureMap(steps.astype(jnp.float32), batch["size"]).zero_outside()
        own_size = Canvas(*batch["label"].shape[1:], batch["label_size"])
        steps = resize.nearest(cut, to=own_size).values.astype(jnp.int8)
        return {"counts": jnp.zeros(1, jnp.int32), "index": batch["index"]}, {"prediction": steps}

    def _check(self, model: models.Segmentor, config) -> None:
        if model.head is None or model.head.main_output != "mask":
            raise InputError(
                f"{model.spec.name} predicts no boundaries and directions: give the checkpoint of a SegFix net"
            )
        if config.protocol not in ("single", "crops"):
            raise InputError(f'offsets are predicted with eval.protocol "single" or "crops", found {config.protocol!r}')
