"""Readers: what a `Runner` computes on the device for every image, and yields as `item[name]`."""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from openseg_jax import models
from openseg_jax.config import EvalSettings, SegFixSettings
from openseg_jax.errors import InputError
from openseg_jax.inference.forward import Forward, extent
from openseg_jax.labels.directions import offsets, quantize, within
from openseg_jax.labels.refinement import refine
from openseg_jax.metrics.confusion import confusion_matrix
from openseg_jax.metrics.directions import direction_counts
from openseg_jax.models import resize
from openseg_jax.models.layers import FeatureMap


class Reader(abc.ABC):
    """Computes one array for a batch, with one row per image.

    Attributes:
        maps: Maps of a sample, such as "distance", that it takes from the batch.
        is_map: Whether the result is (N, H, W, ...) on the canvas of the labels, to be cut to each image's own size.
    """

    maps: tuple[str, ...] = ()
    is_map: bool = True

    def check(self, model: models.Segmentor, settings: EvalSettings) -> None:  # noqa: B027 not all have conditions
        """Raises InputError if it has nothing to read of this net, or not with these settings."""

    @abc.abstractmethod
    def __call__(self, forward: Forward) -> jax.Array:
        """Returns the array, (N, ...)."""


@dataclasses.dataclass(frozen=True)
class PixelReader(Reader):
    """Reads each pixel of the logits on its own, so that they can be resized block by block.

    output: An output of a SegFix net, "mask" or "direction"; the segmentation if not given.
    """

    output: str = ""

    def check(self, model, settings):
        name = model.spec.name
        if self.output:
            _check_boundaries(model, "predicts no boundaries")
            if settings.min_side or settings.size:
                raise InputError("the maps of boundaries are not resized: leave out eval.min_side and eval.size")
            return
        if model.head is None:
            raise InputError(f"{name} is a backbone alone, which segments nothing")
        if not model.head.needs_classes:
            raise InputError(f"{name} predicts boundaries, not classes: use openseg segfix")
        changes_size = settings.min_side or settings.size or settings.protocol != "single"
        if model.head.needs_labels and changes_size:
            raise InputError(f"{name} is given the labels: take eval.protocol=single, at the images' own size")


class ArgMax(PixelReader):
    """Reads the class of each pixel: uint8 (H, W)."""

    def __call__(self, forward):
        return forward.read(lambda logits: jnp.argmax(logits, axis=-1).astype(jnp.uint8), self.output)


class Probabilities(PixelReader):
    """Reads the probabilities of the classes: float16 (H, W, K)."""

    def __call__(self, forward):
        return forward.read(lambda logits: jax.nn.softmax(logits, axis=-1).astype(jnp.float16), self.output)


@dataclasses.dataclass(frozen=True)
class Refined(Reader):
    """Refines the label maps of another reader by the offsets of the samples: uint8 (H, W).

    of: The other reader's name. scale: How many times as far to look, see `labels.refinement.refine`.
    """

    of: str
    scale: int = 2
    maps = ("offsets",)

    def __call__(self, forward):
        sizes = extent(forward.batch["label_box"])
        return refine(forward.found[self.of], forward.batch["offsets"], scale=self.scale, sizes=sizes)


@dataclasses.dataclass(frozen=True)
class ConfusionCounts(Reader):
    """Counts the pixels of each class and each predicted class: int32 (K, K). of: The reader of the label maps."""

    num_classes: int
    of: str = "labels"
    is_map = False

    def __call__(self, forward):
        count = lambda labels, found: confusion_matrix(labels, found, self.num_classes)  # noqa: E731
        return jax.vmap(count)(forward.batch["label"], forward.found[self.of])


@dataclasses.dataclass(frozen=True)
class DirectionCounts(Reader):
    """Counts what a SegFix net gets right: int32 (5, 2), see `metrics.directions.direction_counts`.

    It takes the readers "labels", which is `ArgMax("mask")`, and "direction". truth: What is a boundary.
    """

    truth: SegFixSettings
    maps = ("distance", "angle")
    is_map = False

    def __call__(self, forward):
        batch, found, truth = forward.batch, forward.found, self.truth
        num_directions = forward.outputs["direction"].shape[-1]
        near = within(batch["distance"], truth.min_distance, truth.max_distance)
        shifted = num_directions == 4 and not truth.align_axis
        sector = quantize(batch["angle"], num_directions, shifted=shifted)
        return direction_counts(found["labels"] == 1, found["direction"], near, sector, batch["label"] != 255)


@dataclasses.dataclass(frozen=True)
class Offsets(Reader):
    """Reads a SegFix net's steps to interior pixels: int8 (H, W, 2), (down, right), 0 off boundaries.

    In windows, the probabilities of being boundary and the logits of directions are averaged where they overlap.
    align_axis: Whether the four directions of a net of four are along the axes.
    """

    align_axis: bool = False

    def check(self, model, settings):
        _check_boundaries(model, "predicts no boundaries and directions: give the checkpoint of a SegFix net")
        protocol = settings.protocol
        if protocol not in ("single", "crops"):
            raise InputError(f'offsets are predicted with eval.protocol "single" or "crops", found {protocol!r}')

    def __call__(self, forward):
        def net(x: FeatureMap) -> FeatureMap:
            found = models.apply(forward.model, forward.variables, x.values, sizes=x.extent, maps=True)
            mask = found["mask"].replace(jax.nn.softmax(found["mask"].values, axis=-1)).zero_outside()
            parts = [resize.bilinear(m, to=x.canvas, align_corners=True) for m in (mask, found["direction"])]
            return x.replace(jnp.concatenate([part.values for part in parts], axis=-1))

        found = forward.protocol.logits(net, forward.images)
        boundary, directions = found.values[..., 1] > 0.5, found.values[..., 2:]
        count = directions.shape[-1]
        index = jnp.where(boundary, jnp.argmax(directions, axis=-1), -1)
        steps = offsets(index, count, shifted=count == 4 and not self.align_axis)
        cut = FeatureMap(steps.astype(jnp.float32), extent(forward.batch["box"])).zero_outside()
        return resize.nearest(cut, to=forward.own_size).values.astype(jnp.int8)


def _check_boundaries(model: models.Segmentor, why: str) -> None:
    if model.head is None or model.head.main_output != "mask":
        raise InputError(f"{model.spec.name} {why}")
