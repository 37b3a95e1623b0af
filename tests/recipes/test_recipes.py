"""Every published recipe that is consistent, against what the original's scripts run with."""

import csv
import importlib
from types import SimpleNamespace

import pytest

from openseg_jax import losses
from openseg_jax.config import schema, typed
from openseg_jax.data.pipeline import TrainSamples
from openseg_jax.inference.batches import input_size
from openseg_jax.labels.classes import load_classes
from openseg_jax.training.optimizer import Optimizer
from openseg_jax.training.setup import make_model
from tests.conftest import GOLDENS

_RATE = {"1e2": 0.01, "1e3": 0.001, "2e2": 0.02, "5e3": 0.005}

# script, without its folder "scripts" and ".sh" -> our config file and argument (branch v17 adds ",v17"), and overrides
CONFIGS = {
    "ade20k/hrnet/run_h_48_d_4_ocr_ohem": "ade20k:hrnet_w48_ocr,ohem",
    "ade20k/hrnet/run_h_48_d_4_ocr_ohem_paddle": "ade20k:hrnet_w48_ocr,ohem,eight_gpus",
    "ade20k/hrnet/run_h_48_d_4_ocr_rmi_paddle": "ade20k:hrnet_w48_ocr,rmi,eight_gpus",
    "ade20k/hrnet/run_h_48_d_4_train": "ade20k:hrnet_w48",
    "celeba/run_h_48_d_4_ocr_train": "celeba:hrnet_w48_ocr",
    "celeba/run_h_48_d_4_train": "celeba:hrnet_w48",
    "celeba/aml_run_h_48_d_4_ocr_train": "celeba:hrnet_w48_ocr",
    "celeba/aml_run_h_48_d_4_ocr_train_200k": "celeba:hrnet_w48_ocr",
    **{f"celeba/aml_run_h_48_d_4_ocr_train_lr{rate}": "celeba:hrnet_w48_ocr" for rate in _RATE},
    "cityscapes/fcn/run_r_101_d_8_fcn_train": "cityscapes:fcnet",
    "cityscapes/hrnet/run_h_48_d_4": "cityscapes:hrnet_w48",
    "cityscapes/hrnet/run_h_48_d_4_ocr": "cityscapes:hrnet_w48_ocr",
    "cityscapes/hrnet/run_h_48_d_4_ocr_b": "cityscapes:hrnet_w48_ocr_b",
    "cityscapes/hrnet/run_h_48_d_4_ocr_b_mapillary_trainval_ohem": "cityscapes:hrnet_w48_ocr_b,ohem,from_mapillary",
    "cityscapes/hrnet/run_h_48_d_4_ocr_b_mapillary_trainval_coarse_ohem": "cityscapes:hrnet_w48_ocr_b,ohem,coarse",
    "cityscapes/hrnet/run_h_48_d_4_ocr_b_mapillary_trainval_coarse_trainval_ohem":
        "cityscapes:hrnet_w48_ocr_b,ohem,from_coarse",
    "cityscapes/hrnet/run_h_48_d_4_ocr_paddle": "cityscapes:hrnet_w48_ocr",
    "cityscapes/hrnet/run_h_48_d_4_ocr_paddle_ohem": "cityscapes:hrnet_w48_ocr,ohem",
    "cityscapes/hrnet/run_h_48_d_4_ocr_rmi_paddle": "cityscapes:hrnet_w48_ocr,rmi",
    "cityscapes/hrnet/run_h_48_d_4_ocr_rmi_paddle [local]": "cityscapes:hrnet_w48_ocr,rmi",
    "cityscapes/hrnet/run_h_48_d_4_ocr_trainval": "cityscapes:hrnet_w48_ocr,trainval",
    "cityscapes/hrnet/run_h_48_d_4_ocr_trainval_ohem_paddle": "cityscapes:hrnet_w48_ocr,ohem,trainval",
    "cityscapes/isa/run_r_101_d_8_isa_train": "cityscapes:isanet",
    "cityscapes/ocnet/run_r_101_d_8_aspoc_train": "cityscapes:asp_ocnet",
    "cityscapes/ocnet/run_r_101_d_8_baseoc_train": "cityscapes:base_ocnet",
    "cityscapes/ocrnet/run_ideal_spatial_ocrnet": "cityscapes:ideal_spatial_ocrnet",
    "cityscapes/ocrnet/run_r_101_d_8_asp_ocrnet_train": "cityscapes:spatial_asp_ocrnet",
    "cityscapes/ocrnet/run_r_101_d_8_ocrnet_train": "cityscapes:spatial_ocrnet",
    "cityscapes/resnest/run_r_101_d_8_fcn": "cityscapes:fcnet,deepbase_resnest101_dilated8",
    "cityscapes/segfix/run_h_48_d_4_segfix": "segfix:cityscapes,hrnet_w48",
    "cityscapes/segfix/run_h_48_d_4_segfix_inst": "segfix:cityscapes,hrnet48,instance",
    "cityscapes/segfix/run_h_48_d_4_segfix_trainval": "segfix:cityscapes,hrnet48,trainval",
    "cityscapes/segfix/run_hx_20_d_2_segfix": "segfix:cityscapes,hrnet2x_w20",
    "cityscapes/segfix/run_hx_20_d_2_segfix_inst": "segfix:cityscapes,hrnet2x20,instance",
    "cityscapes/segfix/run_hx_20_d_2_segfix_trainval": "segfix:cityscapes,hrnet2x20,trainval",
    "segfix/run_hx_20_d_2_cityscapes_ade20k": "segfix:cityscapes,hrnet2x20,ade20k_too",
    "coco_stuff/run_h_48_d_4_ocr_ohem_train": "coco_stuff:hrnet_w48_ocr,ohem",
    "coco_stuff/run_h_48_d_4_ocr_ohem_train_paddle": "coco_stuff:hrnet_w48_ocr,ohem,eight_gpus",
    "coco_stuff/run_h_48_d_4_ocr_ohem_train_rmi_paddle": "coco_stuff:hrnet_w48_ocr,rmi,eight_gpus",
    "coco_stuff/run_h_48_d_4_ocr_train": "coco_stuff:hrnet_w48_ocr",
    "coco_stuff/run_h_48_d_4_train": "coco_stuff:hrnet_w48",
    "coco_stuff/run_r_101_d_8_ocr_train": "coco_stuff:spatial_ocrnet",
    "coco_stuff/run_r_101_d_8_train": "coco_stuff:fcnet",
    "lip/run_h_48_d_4_ocr_b_train": "lip:hrnet_w48_ocr_b",
    "lip/run_h_48_d_4_ocr_train": "lip:hrnet_w48_ocr",
    "lip/run_h_48_d_4_ocr_train_paddle": "lip:hrnet_w48_ocr,eight_gpus",
    "lip/run_h_48_d_4_ocr_train_rmi_paddle": "lip:hrnet_w48_ocr,eight_gpus",  # it says RMI, and runs plain aux CE
    "lip/run_h_48_d_4_train": "lip:hrnet_w48",
    "pascal_context/run_h_48_d_4_ocr_b_train": "pascal_context:hrnet_w48_ocr_b",
    "pascal_context/run_h_48_d_4_ocr_train": "pascal_context:hrnet_w48_ocr",
    "pascal_context/run_h_48_d_4_ocr_train_paddle": "pascal_context:hrnet_w48_ocr,eight_gpus",
    "pascal_context/run_h_48_d_4_ocr_train_rmi_paddle": "pascal_context:hrnet_w48_ocr,rmi,eight_gpus",
    "pascal_context/run_r_101_d_8_aspocr_train": "pascal_context:spatial_asp_ocrnet",
    "pascal_context/run_r_101_d_8_baseoc_train": "pascal_context:base_ocnet",
    "pascal_context/run_r_101_d_8_gt_ocr_train": "pascal_context:ideal_spatial_ocrnet",
    "pascal_context/run_r_101_d_8_ocr_train": "pascal_context:spatial_ocrnet",
    "pascal_context/run_r_101_d_8_train": "pascal_context:fcnet",
}  # fmt: skip
OVERRIDES = {
    "cityscapes/hrnet/run_h_48_d_4_ocr_rmi_paddle [local]": ["train.batch_size=4", "loss.replicas=4"],
    **{
        f"celeba/aml_run_h_48_d_4_ocr_train_lr{rate}": [
            f"optimizer.learning_rate={value}",
            "optimizer.head_multiplier=1.0",
        ]
        for rate, value in _RATE.items()
    },
}
with open(GOLDENS / "recipes.csv") as _file:
    ROWS = [row for row in csv.DictReader(_file) if row["runnable"] == "ok"]
LOSSES = {
    "fs_ce_loss": "ce", "fs_auxce_loss": "aux_ce", "fs_auxohemce_loss": "aux_ohem", "fs_aux_rmi_loss": "aux_rmi",
    "segfix_loss": "segfix",
}  # fmt: skip


def get_config(file, argument):
    return importlib.import_module(f"configs.{file}").get_config(*[argument] * bool(argument))


def config_of(row):
    script = row["script"].removeprefix("scripts/").replace(".sh", "")
    file, _, argument = CONFIGS[script].partition(":")
    v17 = row["branch"] == "pytorch-1.7"
    overrides = [*OVERRIDES.get(script, ())]
    if v17 and script.startswith("celeba/aml") and not script.endswith("200k"):
        overrides.append("train.steps=200000")
    config = get_config(file, argument + ",v17" * v17)
    for override in overrides:
        name, _, value = override.partition("=")
        config.update_from_flattened_dict({name: float(value) if "." in value else int(value)})
    return config


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['branch']}-{row['script'].removeprefix('scripts/')}")
def test_recipe(row):
    config = config_of(row)
    width, height = map(int, row["crop_wxh"].split("x"))
    backbone = config.model.backbone or make_model(typed(config).model, 19).spec.backbone
    assert typed(config).to_dict()
    found = {
        "model": config.model.name,
        "backbone": backbone,
        "norm": config.model.norm,
        "loss": config.loss.name,
        "steps": config.train.steps,
        "rate": config.optimizer.learning_rate,
        "multiplier": config.optimizer.head_multiplier,
        "batch": config.train.batch_size,
        "crop": tuple(config.augment.crop),
        "decay": config.optimizer.weight_decay,
        "eval": config.train.eval_every,
        "power": config.schedule.power,
        "gpus": (config.loss.scope, config.loss.replicas),
    }
    is_eager = row["script"].startswith("scripts/coco_stuff") and row["gpus"] == "8"
    expected = {
        "model": row["model_name"],
        "backbone": row["backbone"],
        "norm": {"inplace_abn": "inplace_abn", "torchsyncbn": "batch_norm"}[row["bn_type"]],
        "loss": LOSSES[row["loss_type"]],
        "steps": int(row["max_iters"]),
        "rate": float(row["base_lr"]),
        "multiplier": float(row["nbb_mult"]),
        "batch": int(row["batch_size"]),
        "crop": (height, width),
        "decay": float(row["weight_decay"]),
        "eval": int(row["test_interval"]),
        "power": float(row["poly_power"]),
        "gpus": ("replica", int(row["gpus"])),
    }
    if is_eager and "paddle" not in row["script"]:  # our argument lacks eight_gpus, which this script takes in v17 only
        config = get_config("coco_stuff", "hrnet_w48_ocr,ohem,v17,eight_gpus")
        found |= {"eval": config.train.eval_every, "gpus": (config.loss.scope, config.loss.replicas)}
    assert found == expected
    if "ohem" in config.loss.name:
        assert row["ohem"] == f"{config.loss.ohem_threshold}/{config.loss.ohem_min_kept}"
    if config.loss.name != "segfix":
        assert (row["ce_weight"] == "yes") == bool(config.loss.class_weights)


@pytest.mark.parametrize(
    "file",
    [
        "ade20k", "celeba", "cityscapes", "cityscapes:hrnet_w48_ocr,trainval", "coco_stuff", "lip:ce2p_asp_ocrnet",
        "mapillary", "pascal_context", "pascal_voc", "segfix:ade20k",
        "segfix:camvid,hrnet_w18_small_v1,small", "segfix:folder,hrnet32",
        "camvid", "folder", "synthetic",
    ],
)  # fmt: skip
def test_every_config_is_complete(file):
    """What it names exists and fits together."""
    name, _, argument = file.partition(":")
    config = typed(get_config(name, argument))
    classes = load_classes(config.data.classes or "camvid")
    assert TrainSamples.of(config, SimpleNamespace(classes=classes)).steps(0, (600, 800))
    assert min(input_size(config.eval)(300, 400)) >= 300
    losses.build(config.loss)
    Optimizer(config.optimizer, config.schedule, config.train.steps)
    model = make_model(config.model, len(classes))
    assert frozenset({"segfix": {"mask", "direction"}, "ce2p": {"seg_out1", "edge_out", "seg_dsn", "seg_out2"}}.get(
        config.loss.name, {"aux", "out"})) in schema.LOSSES[config.loss.name].outputs  # fmt: skip
    assert model.spec.name == config.model.name


def test_options_are_checked():
    with pytest.raises(ValueError, match="unknown option 'ohme'; there are v17, ohem, rmi, trainval"):
        get_config("cityscapes", "hrnet_w48_ocr,ohme")
