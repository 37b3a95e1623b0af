"""From a config to all that a run is made of."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from jax.sharding import Mesh
from ml_collections import ConfigDict

from openseg_jax import data, models, sharding
from openseg_jax.data.normalize import Normalization
from openseg_jax.data.on_device import RawSamples, augment, canvas_for
from openseg_jax.data.pipeline import TrainSamples
from openseg_jax.data.transforms.chain import make_chain, make_collate
from openseg_jax.errors import InputError
from openseg_jax.evaluation import make_evaluator
from openseg_jax.training.optimizer import Optimizer
from openseg_jax.training.step import TrainStep


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run is made of. Making it reads no pixels but those of the data check, and allocates nothing.

    prepare: turns a batch of samples, on the device, into one of a training step.
    """

    config: ConfigDict
    mesh: Mesh
    train_source: object
    val_source: object
    classes: data.ClassTable
    samples: TrainSamples | RawSamples
    prepare: Callable[[dict], dict]
    normalization: Normalization
    model: models.Segmentor
    evaluator: object
    optimizer: Optimizer
    step: TrainStep


def make_run(config: ConfigDict) -> Run:
    """Raises InputError where the config, the data or the devices do not fit each other."""
    mesh = sharding.make_mesh(config.mesh.spatial)
    batch_size, parts = config.train.batch_size, config.train.accumulate
    sharding.check_batch(mesh, "train.batch_size", batch_size, height=config.augment.crop[0])
    if parts > 1 and batch_size % parts == 0:
        sharding.check_batch(mesh, f"a part (train.accumulate={parts}) of a batch", batch_size // parts)
    train_source = data.make_train_source(config.data)
    val_source = data.make_source(config.data, config.data.val_split)
    classes = data.class_table(config.data)
    data.check_before_training(config.data, classes)
    samples, prepare = _samples(config, train_source, classes)
    normalization = Normalization(**config.normalization)
    model = make_model(config, len(classes))
    optimizer = Optimizer(config.optimizer, config.schedule, config.train.steps)
    return Run(
        config=config,
        mesh=mesh,
        train_source=train_source,
        val_source=val_source,
        classes=classes,
        samples=samples,
        prepare=prepare,
        normalization=normalization,
        model=model,
        evaluator=make_evaluator(model, config, val_source, normalization, mesh),
        optimizer=optimizer,
        step=TrainStep(model, optimizer, normalization, mesh, config),
    )


def make_model(config: ConfigDict, num_classes: int) -> models.Segmentor:
    """The model of a training config."""
    wanted = config.model
    # A config lists all options of its named model; only those that were changed go on to, maybe, another backbone.
    defaults = models.default_options(wanted.name)
    options = {name: value for name, value in wanted.options.items() if value != defaults.get(name, object())}
    return models.create(
        wanted.name,
        num_classes,
        backbone=wanted.backbone or None,
        norm=wanted.norm,
        dtype=wanted.dtype,
        **options,
    )


def _samples(config: ConfigDict, source, classes: data.ClassTable):
    """The sequence of training samples, and what turns its batches, on the device, into those of a training step."""
    chain, collate = make_chain(config.augment, classes), make_collate(config.augment)
    samples = TrainSamples(source, chain, collate, config.seed, config.train.batch_size)
    if not config.augment.on_device:
        return samples, lambda batch: batch
    if collate.mode != "fix_size":
        raise InputError("augment.on_device gives batches of one size: leave augment.collate.mode at fix_size")
    if config.data.maps:
        raise InputError("augment.on_device knows images and labels only: with data.maps leave it off")
    raw = RawSamples(samples, canvas_for(config.augment))
    return raw, functools.partial(augment, size=collate.size, swap=classes.flip_pairs)
