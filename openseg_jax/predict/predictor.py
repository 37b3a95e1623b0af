"""A net that segments images in memory."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from openseg_jax import sharding
from openseg_jax.agreement import settings_of_run
from openseg_jax.config import EvalSettings, typed
from openseg_jax.converters import load
from openseg_jax.data.sources import ArraySource
from openseg_jax.errors import InputError
from openseg_jax.inference import ArgMax, Item, Probabilities, Runner, fold
from openseg_jax.labels.classes import ClassTable

_READERS = {"labels": ArgMax(), "probabilities": Probabilities()}


class Predictor:
    """Segments images with the net of a checkpoint.

    Images of different sizes share at most `max_buckets` padded shapes, each compiled once, which changes no result.

    Attributes:
        classes: The classes, in the order of train ids; `classes.decode` turns these into the ids of masks.
        settings: How images are tested.
    """

    def __init__(self, checkpoint: str | Path, batch_size: int = 0, **options):
        """Loads a checkpoint, the folder of a run or an import.

        batch_size: Images at a time; 0 is one per device. options: Fields of the `eval` part of a config, such as
        protocol="ms_flip" or min_side=520; without them, images are tested as in the validations of the run.
        """
        model, variables, metadata = load(checkpoint)
        if model.head is not None and model.head.needs_labels:
            raise InputError(f"{model.spec.name} is given the labels, so it cannot predict images without")
        fields = [field.name for field in dataclasses.fields(EvalSettings)]
        if unknown := options.keys() - fields:
            raise InputError(f"unknown option {min(unknown)!r}; there are {', '.join(fields)}")
        mesh, names = sharding.make_mesh(), [f"class {i}" for i in range(model.spec.num_classes or 1)]
        self.classes = metadata.classes or ClassTable.from_dict({"classes": names}, str(checkpoint))
        settings = typed({"eval": {"batch_size": batch_size or mesh.size} | options}).eval
        self.settings, _ = settings_of_run(settings, metadata, options)
        source = ArraySource([], self.classes)
        self._variables = fold(model, sharding.put_replicated(mesh, variables), mesh)
        self._make = lambda readers: Runner(model, source, self.settings, readers, metadata.normalization, mesh)
        self._runners: dict[tuple[str, ...], Runner] = {}
        self._runner("labels")  # refuses settings that do not fit this net

    def __call__(self, images: Sequence[np.ndarray], *, probabilities: bool = False) -> list[np.ndarray]:
        """Returns the train ids, uint8 (H, W), or the probabilities, float16 (H, W, K), of each image.

        Train ids are places in `classes.names`, and `classes.decode` makes the ids of masks from them.

        images: uint8 (H, W, 3), RGB, of any sizes.
        """
        name = "probabilities" if probabilities else "labels"
        found = {item.index: item[name] for item in self.run(ArraySource(images, self.classes), name)}
        return [found[index] for index in range(len(images))]

    def run(self, source, *results: str) -> Iterator[Item]:
        """Yields the items of a source of samples, with "labels", "probabilities" or both as `results` say."""
        return self._runner(*results or ("labels",)).over(source).run(self._variables)

    def _runner(self, *results: str) -> Runner:
        if results not in self._runners:
            self._runners[results] = self._make({name: _READERS[name] for name in results})
        return self._runners[results]
