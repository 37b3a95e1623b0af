"""The parts of a run, made from its config."""

import dataclasses
import functools
import math
from collections.abc import Callable

from jax.sharding import Mesh

from openseg_jax import data, models, sharding
from openseg_jax.config import Config, ModelSettings
from openseg_jax.config.check import refuse
from openseg_jax.config.rules import class_faults
from openseg_jax.config.schema import LARGEST_AREA
from openseg_jax.data.normalize import Normalization
from openseg_jax.data.on_device import RawSamples, augment, canvas_for
from openseg_jax.data.pipeline import TrainSamples
from openseg_jax.errors import InputError
from openseg_jax.training.step import TrainStep
from openseg_jax.training.validation import Validation


@dataclasses.dataclass(frozen=True)
class Run:
    """The parts of a run. Making them reads no pixels but those of the data check, and allocates no arrays of the net.

    `prepare` turns a batch of `samples`, on the device, into a batch of the training step.
    """

    config: Config
    mesh: Mesh
    train_source: object
    classes: data.ClassTable
    samples: TrainSamples | RawSamples
    prepare: Callable[[dict], dict]
    normalization: Normalization
    model: models.Segmentor
    step: TrainStep
    validation: Validation


def make_run(config: Config) -> Run:
    """Makes the parts of a run; raises InputError if the config, the data and the devices do not fit each other."""
    mesh = sharding.make_mesh(config.mesh.spatial)
    batch_size, parts = config.train.batch_size, config.train.accumulate
    sharding.check_batch(mesh, "train.batch_size", batch_size, height=config.augment.crop[0])
    if parts > 1:
        sharding.check_batch(mesh, f"a part (train.accumulate={parts}) of a batch", batch_size // parts)
    train_source = data.make_train_source(config.data)
    val_source = data.make_source(config.data, config.data.val_split)
    classes = data.class_table(config.data)
    refuse([*class_faults(config, classes)])
    data.check_before_training(config.data, classes, config.augment)
    samples, prepare = _samples(config, train_source)
    normalization = Normalization(**vars(config.normalization))
    model = make_model(config.model, len(classes))
    step = TrainStep(config, model, normalization, mesh)
    validation = Validation(model, config, val_source, classes, normalization, mesh)
    return Run(config, mesh, train_source, classes, samples, prepare, normalization, model, step, validation)


def make_model(settings: ModelSettings, num_classes: int) -> models.Segmentor:
    """Creates the model of a config, for a number of classes."""
    # A config lists all options of its named model; only the changed ones are passed on, since the backbone may be
    # another one that lacks the rest.
    defaults = models.default_options(settings.name)
    options = {name: value for name, value in settings.options.items() if value != defaults.get(name, object())}
    parts = {"backbone": settings.backbone or None, "norm": settings.norm, "dtype": settings.dtype}
    return models.create(settings.name, num_classes, **parts, **options)


def _samples(config: Config, source):
    """Returns the sequence of training samples, and `Run.prepare`."""
    samples = TrainSamples.of(config, source)
    if not config.augment.on_device:
        return samples, lambda batch: batch
    crop, scale, canvas = config.augment.crop, config.augment.scale, canvas_for(config.augment)
    if math.prod(canvas) > LARGEST_AREA:
        raise InputError(
            f"augment.on_device needs {canvas[0]}x{canvas[1]} pixels of an image, for augment.crop={crop} and "
            f"augment.scale={scale}, and there may be {LARGEST_AREA}: leave it off"
        )
    raw = RawSamples(samples, canvas)
    return raw, functools.partial(augment, size=samples.collate.size, swap=samples.augmentation.swap)
