"""Configs of the original, read by its rules."""

import json
import runpy

import pytest

from openseg_jax.config import typed
from openseg_jax.training.setup import make_model
from tests import commands

MODULE = "openseg_jax.recipes.legacy"
JSON = {
    "dataset": "cityscapes",
    "method": "fcn_segmentor",
    "data": {"input_mode": "BGR", "num_classes": 19, "data_dir": "~/city", "workers": 8, "oddity": 3},
    "train": {
        "batch_size": 8,
        "data_transformer": {
            "size_mode": "fix_size", "input_size": [1024, 512], "align_method": "only_pad", "pad_mode": "random",
        },
    },
    "val": {"batch_size": 4, "mode": "ss_test", "data_transformer": {"size_mode": "fix_size"}},
    "train_trans": {
        "trans_seq": ["random_hflip", "resize", "random_resize", "random_crop", "random_brightness"],
        "random_brightness": {"ratio": 1.0, "shift_value": 10},
        "resize": {"min_side_length": 520},
        "random_hflip": {"ratio": 0.5, "swap_pair": []},
        "random_resize": {"scale_range": [0.5, 2.0], "aspect_range": [0.9, 1.1]},
        "random_crop": {"crop_size": [1024, 512], "method": "random"},
    },
    "val_trans": {"trans_seq": ["resize"], "resize": {"target_size": [473, 470]}},
    "normalize": {"div_value": 1, "mean": [102.9801, 115.9465, 122.7717], "std": [1.0, 1.0, 1.0]},
    "network": {
        "backbone": "deepbase_resnet101_dilated8", "multi_grid": [1, 1, 1], "model_name": "base_ocnet",
        "bn_type": "inplace_abn", "factors": [[8, 8]], "loss_weights": {"aux_loss": 0.4, "seg_loss": 1.0},
    },
    "lr": {
        "base_lr": 0.01, "metric": "iters", "lr_policy": "lambda_poly", "nbb_mult": 7.0, "is_warm": True,
        "warm": {"warm_iters": 1000, "freeze_backbone": False}, "step": {"gamma": 0.5, "step_size": 100},
    },
    "solver": {"display_iter": 10, "test_interval": 1000, "max_iters": 40000},
    "optim": {
        "optim_method": "sgd", "sgd": {"weight_decay": 0.0005, "momentum": 0.9, "nesterov": False},
        "adam": {"betas": [0.9, 0.999], "eps": 1e-08, "weight_decay": 0.0001},
    },
    "loss": {
        "loss_type": "fs_auxce_loss",
        "params": {
            "ce_weight": [1.0] * 19, "ce_reduction": "elementwise_mean", "ohem_minkeep": 100000, "ohem_thresh": 0.9,
        },
    },
}  # fmt: skip


@pytest.fixture
def imported(tmp_path, capsys):
    """A function: flags and overrides -> the config that is written, and what is printed."""
    (tmp_path / "H.json").write_text(json.dumps(JSON))

    def run(*flags):
        out = tmp_path / "mine.py"
        out.unlink(missing_ok=True)
        assert commands.call(MODULE, tmp_path / "H.json", *flags, "--out", out) == 0
        return runpy.run_path(str(out))["get_config"](), capsys.readouterr().out

    return run


def test_a_script_of_the_original(imported):
    """The flags of a published training script."""
    config, out = imported(
        "--drop_last", "y", "--phase", "train", "--gathered", "n", "--loss_balance", "y", "--log_to_file", "n",
        "--backbone", "hrnet48", "--model_name", "hrnet_w48_ocr", "--gpu", "0", "1", "2", "3", "--data_dir", "/city",
        "--loss_type", "fs_auxohemce_loss", "--max_iters", "80000", "--checkpoints_name", "x",
        "--pretrained", "w48.pth", "--include_val", "y",
    )  # fmt: skip
    expected = {
        "model.name": "hrnet_w48_ocr", "model.backbone": "", "model.norm": "inplace_abn", "data.root": "/city",
        "data.extra": ({"split": "val"},), "loss.name": "aux_ohem", "loss.scope": "replica", "loss.replicas": 4,
        "train.steps": 80000, "train.batch_size": 8, "optimizer.learning_rate": 0.01, "augment.crop": (512, 1024),
        "augment.chain": ("random_flip", "resize", "random_resize", "random_crop", "random_brightness"),
        "augment.resize.min_side": 520, "eval.size": (470, 473), "pretrained.checkpoint": "w48.pth",
        "normalization.divisor": 1.0, "schedule.power": 0.9, "seed": 304,
        # the original's flags have defaults that replace what the file says
        "optimizer.head_multiplier": 1.0, "schedule.warmup.steps": 0,
    }  # fmt: skip
    for name, value in expected.items():
        node = config
        for part in name.split("."):
            node = node[part]
        assert node == value, name
    assert "note: data.oddity is not taken over" in out
    assert "norm of an HRNet is fixed in the original" in out
    assert make_model(typed(config).model, 19).spec.name == "hrnet_w48_ocr"


def test_overrides_and_environment(imported, monkeypatch):
    monkeypatch.setenv("lambda_poly_power", "2")
    config, _ = imported(
        "--gpu", "0", "--is_warm", "y", "--group_method", "decay", "--nbb_mult", "10", "lr.base_lr", "0.02",
        "network.factors+", "[4,4]", "network.model_name", "isanet", "network.multi_grid", "(1,2,4)",
    )  # fmt: skip
    assert config.optimizer.learning_rate == 0.02
    assert config.model.name == "isanet"
    assert config.model.options.factors == ((8, 8), (4, 4))
    assert config.model.options.multi_grid == (1, 2, 4)
    assert config.schedule.power == 2
    assert (config.schedule.warmup.steps, config.schedule.warmup.of) == (1000, "kernels")
    assert config.optimizer.head_multiplier == 1.0
    assert not config.optimizer.decay_norms_and_biases
    assert config.loss.scope == "global"
    assert make_model(typed(config).model, 19).spec.backbone == "deepbase_resnet101_dilated8"


def test_a_switch_without_a_word_is_off(imported):
    config, _ = imported("--include_val", "--gathered")
    assert config.data.extra == ()
    assert config.loss.scope == "replica"


def test_resuming(imported):
    config, out = imported("--resume", "x.pth")
    assert (config.pretrained.checkpoint, config.pretrained.parts) == ("x.pth", "all")
    assert "the original only evaluates x.pth" in out
    config, out = imported("--resume", "x.pth", "--resume_continue", "y")
    assert config.pretrained.checkpoint == ""
    assert "start train.py again with the same --workdir" in out


def test_nothing_from_the_file_is_run(tmp_path, imported):
    """Keys and values are data, whatever they hold: line ends, quotes, code."""
    trap = f'x"""\nopen({str(tmp_path / "trap")!r}, "w")\n"""'
    options = json.loads(json.dumps(JSON))
    options["data"] |= {trap: 3, "data_dir": trap}
    (tmp_path / "H.json").write_text(json.dumps(options))
    config, _ = imported("--checkpoints_name", trap, "--pretrained", trap)
    assert config.data.root == config.pretrained.checkpoint == trap
    assert not (tmp_path / "trap").exists()


def test_a_config_that_cannot_be_trained_is_not_written(tmp_path, capsys):
    path, out = tmp_path / "H.json", tmp_path / "x.py"
    for flags, options, message in (
        (["--base_lr", "-1"], JSON, "optimizer.learning_rate must be a number above 0, found -1.0"),
        (["--loss_type", "segfix_loss"], JSON, "loss.name=segfix takes the outputs direction, mask"),
        ([], JSON | {"train": [3]}, "train.batch_size must be a whole number from 1 to 65536, found None"),
        ([], JSON | {"normalize": {"mean": 3}}, "H.json is not as openseg.pytorch has it"),
        ([], [3], "H.json is not as openseg.pytorch has it"),
    ):
        path.write_text(json.dumps(options))
        assert message in commands.fails_here(capsys, MODULE, path, *flags, "--out", out)
        assert not out.exists()


def test_what_is_wrong_is_said(tmp_path, capsys):
    path = tmp_path / "H.json"
    path.write_text(json.dumps(JSON))
    out = ["--out", tmp_path / "x.py"]
    fails = lambda *flags: commands.fails_here(capsys, MODULE, path, *flags, *out)  # noqa: E731
    assert "unknown model 'hrnet_w48_isa'; did you mean" in fails("--model_name", "hrnet_w48_isa")
    assert "overrides come in pairs KEY VALUE, found lr.base_lr" in fails("lr.base_lr")
    assert "dataset+ appends to a list, but dataset is 'cityscapes'" in fails("dataset+", "3")
    path.write_text("{")
    assert "cannot read the options of openseg.pytorch" in fails()
