"""A training run small enough for tests."""

from openseg_jax import models, sharding
from openseg_jax.config import Config, typed
from openseg_jax.data.normalize import Normalization
from openseg_jax.recipes.common import base
from openseg_jax.training.step import TrainStep
from tests import tiny


def config(model="spatial_ocrnet", **changes):
    """A ResNet of one block a stage compiles fastest. Changes are dotted names with __ for the dots: train__steps=3."""
    c = base(model)
    backbone = models.MODELS[model].backbone
    options = tiny.BACKBONES.get(backbone, tiny.BACKBONE if "hrnet" in backbone else tiny.RESNET)
    blocks = {"blocks": (1, 1, 1, 1)} if options == tiny.RESNET else {}
    c.model.options.update(options | blocks | tiny.HEADS[model.replace("w18", "w48")])
    c.data.source = "synthetic"
    c.data.synthetic = {"size": (48, 64), "train_count": 24, "val_count": 5}
    c.augment.crop = (32, 48)
    c.loss.name = "aux_ce"
    c.train.update({"batch_size": 8, "steps": 20, "log_every": 5, "eval_every": 100, "save_every": 100})
    c.eval.batch_size = 8
    for name, value in changes.items():
        *sections, field = name.split("__")
        part = c
        for section in sections:
            part = part[section]
        part[field] = value
    return c


def train_step(config: Config, model, mesh, normalization=Normalization()):  # noqa: B008
    """The training step of a config."""
    return TrainStep(typed(config), model, normalization, mesh)


def begin(step: TrainStep, variables) -> list:
    """The leaves of a new state, on the devices of the step."""
    return step.pack(sharding.put(step.shardings, step.init(variables)))


def flags(c_changes: dict) -> list[str]:
    """The same as command-line arguments for tests/training/config_file.py."""
    return [f"--config.{name.replace('__', '.')}={value}" for name, value in c_changes.items()]
