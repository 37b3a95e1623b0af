"""The commands from a shell: help, wrong input, and the whole way from training to pictures."""

import json

import numpy as np
import pytest

from tests import commands
from tests.data import folders
from tests.training import runs

TRAIN = ["train.py", "--config=tests/training/config_file.py"]


@pytest.mark.parametrize(
    "command",
    [["train.py"], ["eval.py"], ["-m", "openseg_jax.predict"], ["-m", "converters"], ["-m", "converters", "import"]],
)
def test_help_has_an_example(command):
    out = commands.run(*command, "--help")
    assert "--" in out
    if len(command) < 3:
        assert "python" in out


def test_train_evaluate_and_predict(tmp_path):
    out = commands.run(*TRAIN, f"--workdir={tmp_path}", "--config.train.steps=6", devices=8)
    assert "step 6/6" in out
    assert "validation mIoU" in out
    arguments = ["--config=tests/training/config_file.py", f"--checkpoint={tmp_path}", f"--out={tmp_path / 'report'}"]
    commands.run("eval.py", *arguments, devices=8)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert abs(report["miou"] - last["val/miou"]) < 1e-6, "best is the only validation of this run"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--config=configs/kitti.py"], "configs/kitti.py"),
        (["--config.train.stepz=3"], "stepz"),
        (["--config.train.steps=many"], "steps"),
        (["--wrkdir=x"], "Unknown command line flag 'wrkdir'"),
        (["--config.model.name=hrnet_w99"], "unknown model 'hrnet_w99'"),
        (["--config.loss.name=dice"], "unknown loss 'dice'"),
        (["--config.data.source=web"], 'data.source must be "folder" or "synthetic"'),
        (["--config.data.source=folder"], "give --config.data.root=PATH"),
        (["--config.normalization.channels=gbr"], 'the channel order must be "rgb" or "bgr"'),
    ],
)
def test_wrong_input_is_one_sentence(arguments, says, tmp_path):
    message = commands.fails(*TRAIN, f"--workdir={tmp_path / 'run'}", *arguments)
    assert says in message
    assert not (tmp_path / "run" / "latest").exists() or not any((tmp_path / "run" / "latest").iterdir())


def test_missing_flags():
    assert "--config is missing" in commands.fails("train.py", "--workdir=x")
    assert "--workdir is missing" in commands.fails(*TRAIN)
    assert "--checkpoint is missing" in commands.fails("eval.py", "--config=configs/camvid.py")


def test_checkpoints_that_are_none(tmp_path):
    evaluate = ["eval.py", "--config=tests/training/config_file.py"]
    assert "there is no checkpoint folder" in commands.fails(*evaluate, f"--checkpoint={tmp_path / 'none'}")
    assert "contains no checkpoint" in commands.fails(*evaluate, f"--checkpoint={tmp_path}")


def test_broken_data_is_reported_by_training(tmp_path):
    root = folders.write(tmp_path / "data")
    (root / "train" / "label" / "scene2.png").unlink()
    arguments = [
        "train.py", "--config=configs/folder.py", f"--workdir={tmp_path / 'run'}", f"--config.data.root={root}",
        f"--config.data.classes={root / 'classes.json'}",
    ]  # fmt: skip
    assert "have an image but no mask" in commands.fails(*arguments)
    folders.save(root / "train" / "label" / "scene2.png", np.full((48, 48), 42, np.uint8))
    message = commands.fails(*arguments)
    assert "42" in message
    assert "openseg data check" in message
    assert not (tmp_path / "run").exists()


def test_a_diverging_run_ends_with_code_one(tmp_path):
    changes = {"optimizer__learning_rate": 1e25, "train__steps": 50, "train__log_every": 1, "train__batch_size": 2}
    message = commands.fails(*TRAIN, f"--workdir={tmp_path}", *runs.flags(changes), code=1)
    assert "became nan at step" in message or "became inf at step" in message
