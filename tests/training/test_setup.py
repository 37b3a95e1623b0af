"""What the parts of a run say about each other before anything is computed."""

import dataclasses
import json

import jax
import pytest

from openseg_jax import sharding
from openseg_jax.config import load, typed
from openseg_jax.data.normalize import Normalization
from openseg_jax.errors import InputError
from openseg_jax.training.setup import make_model, make_run
from openseg_jax.training.step import TrainStep
from tests.data import folders
from tests.training import runs


def config_of(root, *changes):
    return load("cityscapes:hrnet_w18_small_v1_ocr,ohem", [f"--config.data.root={root}", *changes])


def test_class_weights_belong_to_the_classes(tmp_path):
    """Known only when the table is read, and said before a net is made."""
    root = folders.write(tmp_path)
    table = f"--config.data.classes={root / 'classes.json'}"
    for weights, message in (
        ([], "loss.class_weights has 19 numbers, but data.classes=.*classes.json has 3 classes"),
        (["--config.loss.class_weights=(1, 2)"], "loss.class_weights has 2 numbers"),
        (["--config.loss.class_weights=(1, 2, 3, 4)"], "loss.class_weights has 4 numbers"),
    ):
        with pytest.raises(InputError, match=message):
            make_run(config_of(root, table, *weights))
    nineteen = {"classes": [f"class {i}" for i in range(19)]}
    (root / "nineteen.json").write_text(json.dumps(nineteen))
    with pytest.raises(InputError, match="loss.class_weights are those of the classes of cityscapes"):
        make_run(config_of(root, f"--config.data.classes={root / 'nineteen.json'}"))


def test_images_on_the_device_have_a_limit(tmp_path):
    root = folders.write(tmp_path)
    changes = f"--config.data.classes={root / 'classes.json'}", "--config.loss.class_weights=()"
    config = config_of(root, *changes, "--config.augment.on_device", "--config.data.check=false")
    wide = dataclasses.replace(config.augment, scale=(1 / 32, 1.0))
    with pytest.raises(InputError, match="augment.on_device needs .* pixels of an image"):
        make_run(dataclasses.replace(config, augment=wide))


def test_a_single_value_per_channel():
    """A batch of one image is as good as another, unless a layer has only one value to take the variance of."""
    config = typed(runs.config(train__batch_size=1, augment__crop=(4, 4)))
    step = TrainStep(config, make_model(config.model, 5), Normalization(), sharding.make_mesh())
    shapes = {"image": (1, 4, 4, 3), "label": (1, 4, 4), "box": (1, 4)}
    batch = {name: jax.ShapeDtypeStruct(shape, "uint8") for name, shape in shapes.items()}
    with pytest.raises(InputError, match="one value per channel"):
        jax.eval_shape(step.compiled, step.arguments, batch)
