"""Whole-image inference at one scale: every size of image through a few compiled programs, each image once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from openseg_jax import models, sharding
from openseg_jax.data import pipeline, transforms
from openseg_jax.data.classes import ClassTable, to_labels
from openseg_jax.data.normalize import Normalization, normalize
from openseg_jax.errors import InputError
from openseg_jax.evaluation.metrics import confusion_matrix, scores
from openseg_jax.models import resize
from openseg_jax.models.layers import FeatureMap


def input_size(config) -> Callable[[int, int], tuple[int, int]]:
    """The size at which the network sees an image. config: the `eval` part of a config."""
    if config.size:
        return lambda height, width: tuple(config.size)
    if config.min_side:
        return functools.partial(transforms.min_side_size, min_side=config.min_side)
    return lambda height, width: (height, width)


def predict(
    model: models.Segmentor, variables: dict, batch: dict, normalization: Normalization, *, resized: bool
) -> jax.Array:
    """uint8 (N, H', W') class ids at the images' own sizes, on the canvas of batch["label"]; 0 beyond.

    batch: as `data.pipeline.eval_batches` makes them. resized: whether the network sees another size than the image's
    own; logits are then brought back by OpenCV's cubic rule before the arg max, as in the original.
    """
    corners = jnp.zeros_like(batch["size"])
    images = normalize(batch["image"], jnp.concatenate([corners, batch["size"]], axis=1), normalization)
    labels = to_labels(batch["label"]) if model.head.needs_labels else None
    logits = models.apply(model, variables, images, sizes=batch["size"], labels=labels)[model.main_output]
    if resized:
        own_size = FeatureMap(batch["label"][..., None], batch["label_size"])
        logits = resize.cubic(FeatureMap(logits, batch["size"]), like=own_size).values
    return jnp.argmax(logits, axis=-1).astype(jnp.uint8)


class Evaluator:
    """Runs a model over a source of samples. Made once, it compiles once per bucket, for any number of runs."""

    main_score = "miou"
    classes: ClassTable | None = None  # of what it predicts, if not those of the data
    maps: tuple[str, ...] = ()  # of a sample, besides image and label

    def __init__(self, model, config, source, normalization: Normalization, mesh: Mesh):
        """config: the `eval` part of a config."""
        self._check(model, config)
        sharding.check_batch(mesh, "eval.batch_size", config.batch_size)
        self._model, self._normalization, self._resized = model, normalization, bool(config.min_side or config.size)
        self._source, self._mesh, self._batch_size = source, mesh, config.batch_size
        self._input_size = input_size(config)
        sizes = [source.size(index) for index in range(len(source))]
        spatial = mesh.devices.shape[1]
        self.buckets = pipeline.make_buckets(
            sizes, max_buckets=config.max_buckets, input_size=self._input_size, multiple=spatial
        )
        self._step = jax.jit(self._count, out_shardings=(sharding.replicated(mesh), sharding.replicated(mesh)))

    def run(
        self,
        variables: dict,
        on_prediction: Callable[[int, np.ndarray], None] | None = None,
        progress: Callable[[Iterator, int], Iterator] = lambda batches, count: batches,
    ) -> np.ndarray:
        """int64 counts over the whole source: the (K, K) confusion matrix.

        on_prediction: called with (index, uint8 (H, W) class ids) for each image. progress: wraps the batches.
        """
        process = (jax.process_index(), jax.process_count())
        batches = pipeline.eval_batches(
            self._source,
            self.buckets,
            batch_size=self._batch_size,
            input_size=self._input_size,
            process=process,
            maps=self.maps,
        )
        count = sum(-(-len(bucket.indices) // self._batch_size) for bucket in self.buckets)
        total, pending = 0, None
        for batch in progress(batches, count):
            done, pending = pending, (batch, self._step(variables, sharding.put_batch(self._mesh, batch)))
            if done:  # read one batch late, so that the device always has the next one to do
                total = total + self._collect(*done, on_prediction)
        return total + self._collect(*pending, on_prediction)

    def summary(self, counts: np.ndarray) -> dict[str, float]:
        """The scores that are one number."""
        return {name: value for name, value in scores(counts).items() if np.ndim(value) == 0}

    def truth(self, sample: dict) -> np.ndarray:
        """uint8 (H, W): what the prediction for a sample should be, 255 where nothing is."""
        return sample["label"]

    def _count(self, variables: dict, batch: dict) -> tuple[jax.Array, jax.Array]:
        """What is counted of a batch, and its predictions."""
        prediction = predict(self._model, variables, batch, self._normalization, resized=self._resized)
        return confusion_matrix(batch["label"], prediction, self._model.spec.num_classes), prediction

    def _check(self, model: models.Segmentor, config) -> None:
        if model.head is None:
            raise InputError(f"{model.spec.name} is a backbone alone, which segments nothing")
        if not model.head.needs_classes:
            raise InputError(f"{model.spec.name} predicts boundaries, not classes")
        if model.head.needs_labels and (config.min_side or config.size):
            raise InputError(
                f"{model.spec.name} is told the labels, which eval.min_side and eval.size do not resize; leave them out"
            )

    def _collect(self, batch: dict, results, on_prediction) -> np.ndarray:
        counts, prediction = results
        if on_prediction is not None and jax.process_count() == 1:
            for index, size, ids in zip(batch["index"], batch["label_size"], np.asarray(prediction), strict=True):
                if index >= 0:
                    on_prediction(int(index), ids[: size[0], : size[1]])
        return np.asarray(counts, np.int64)
