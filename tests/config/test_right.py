"""Right configs, and the page that lists every field."""

import ast
import dataclasses
import importlib
import json

import pytest
from ml_collections import ConfigDict

from openseg_jax import config, models
from openseg_jax.config import schema
from openseg_jax.config.options import options_of, outputs_of
from openseg_jax.config.reference import reference
from openseg_jax.data.augmentation import TRANSFORMS
from openseg_jax.data.maps import MAPS
from openseg_jax.inference.protocols import make_protocol
from openseg_jax.recipes import common
from openseg_jax.training.schedules import make_factor
from tests import commands


def choices(kind, name):
    return next(field for field in dataclasses.fields(kind) if field.name == name).metadata["setting"].choices


@pytest.mark.parametrize("name", config.recipes())
def test_recipes_by_name_and_by_file(name):
    found = config.load(name)
    assert found == config.load(f"configs/{name}.py")
    assert config.typed(found) == found
    assert config.typed(json.loads(found.to_json())) == found
    module = importlib.import_module(f"configs.{name}")
    assert config.typed(module.get_config()) == found


@pytest.mark.parametrize("model", models.MODELS)
def test_every_model_has_a_right_config(model):
    """Its loss is that of its outputs, and its options have the types of the signatures."""
    found = config.typed(common.base(model))
    assert found.loss.name in schema.LOSSES
    assert dict(found.model.options) == models.default_options(model)
    assert set(options_of(model)) == set(models.default_options(model))


def test_losses_by_outputs():
    """What the original's recipes take."""
    assert outputs_of("hrnet_w48") == {"out"}
    assert outputs_of("fcnet") == outputs_of("hrnet_w18_ocr") == {"out", "aux"}
    assert [common.loss_for(m) for m in ("hrnet_w48", "fcnet", "segfix_hrnet", "ce2p_ocrnet")] == [
        "ce", "aux_ce", "segfix", "ce2p",
    ]  # fmt: skip
    assert [common.loss_for("hrnet_w48", option) for option in ("ohem", "rmi")] == ["ohem", "rmi"]
    assert [common.loss_for("isanet", option) for option in ("ohem", "rmi")] == ["aux_ohem", "aux_rmi"]


def test_changes():
    found = config.load(
        "camvid",
        [
            "--config.train.steps", "7", "--config.optimizer.learning_rate=1", "--config.augment.crop=(64, 96)",
            "--noconfig.data.check", "--config.augment.chain=random_crop", "--config.data.extra=({'split': 'more'},)",
            "--config.data.train_split=a", "--config.data.train_split=b",
        ],
    )  # fmt: skip
    assert (found.train.steps, found.optimizer.learning_rate, found.augment.crop) == (7, 1.0, (64, 96))
    assert isinstance(found.optimizer.learning_rate, float)
    assert not found.data.check
    assert found.augment.chain == ("random_crop",)
    assert found.data.extra == (config.ExtraData(split="more"),)
    assert found.data.train_split == "b"


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        (["--config.eval.scales=(1,)", "--config.eval.scales=(2,)"], "eval.scales", (2.0,)),
        (["--config.eval.scales", "(1,)", "--config.eval.scales", "(2, 3)"], "eval.scales", (2.0, 3.0)),
        (["--config.augment.crop=(32, 32)", "--config.augment.crop=(64, 64)"], "augment.crop", (64, 64)),
        (
            ["--config.augment.chain=random_crop", "--config.augment.chain=random_flip"],
            "augment.chain",
            ("random_flip",),
        ),
        (["--noconfig.data.check", "--config.data.check"], "data.check", True),
        (["--config.train.steps=3", "--config.seed=1", "--config.train.steps=4"], "train.steps", 4),
    ],
)
def test_the_last_of_several_values_counts(changes, name, value):
    section, field = name.split(".")
    assert getattr(getattr(config.load("folder", changes), section), field) == value


def test_fields_that_are_left_out_get_their_defaults():
    assert config.typed({}) == config.Config()
    found = config.typed(ConfigDict({"train": {"steps": 3}, "augment": {"crop": [32, 48]}}))
    assert found.train == config.TrainSettings(steps=3)
    assert found.augment.crop == (32, 48)
    assert config.Config().to_dict() == {
        **common.base("hrnet_w48_ocr").to_dict(),
        "model": config.Config().to_dict()["model"],
    }


def test_parts_are_frozen_and_replaced():
    settings = config.EvalSettings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.batch_size = 3
    assert dataclasses.replace(settings, batch_size=3).batch_size == 3


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from openseg_jax.recipes.common import base\n\n\n"
        "def get_config(model='hrnet_w18_ocr'):\n    config = base(model)\n"
        "    config.train.steps = 3\n    return config\n"
    )
    assert config.load(str(path)).train.steps == 3
    assert config.load(f"{path}:fcnet", ["--config.train.steps=4"]).train.steps == 4


def test_choices_are_those_of_the_tables():
    for protocol in choices(schema.EvalSettings, "protocol"):
        make_protocol(schema.EvalSettings(protocol=protocol))
    assert choices(schema.AugmentSettings, "chain") == tuple(TRANSFORMS)
    assert choices(schema.DataSettings, "maps") == MAPS
    for name in choices(schema.ScheduleSettings, "name"):
        assert make_factor(schema.ScheduleSettings(name=name, milestones=(3,)), 10)(0) == 1
    for norm in choices(schema.ModelSettings, "norm"):
        models.create("hrnet_w18_small_v1", 2, norm=norm)


def test_options_of_recipes_are_explained():
    for name in config.recipes():
        module = __import__(f"openseg_jax.recipes.{name}", fromlist=["TAKES"])
        assert set(module.TAKES.options) <= set(common.OPTIONS)
        front = ast.get_docstring(ast.parse((commands.ROOT / "configs" / f"{name}.py").read_text()))
        assert f"python train.py --config=configs/{name}.py" in front
        assert f"openseg train --config={name}" in module.__doc__
        for option in module.TAKES.options:
            assert f"`{option}`" in module.__doc__


def test_the_page_of_fields_is_current():
    assert (commands.ROOT / "docs" / "config.md").read_text() == reference() + "\n", "python -m openseg_jax.config"
