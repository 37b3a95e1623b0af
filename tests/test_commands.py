"""The commands from a shell: help, wrong input, and the whole way from training to predictions."""

import argparse
import json
import subprocess
import sys

import numpy as np
import pytest

import openseg_jax
from openseg_jax import cli
from tests import commands
from tests.data import folders
from tests.training import runs

TRAIN = ["train.py", "--config=tests/training/config_file.py"]


def parsers(parser, words=()):
    """Yields the words and the parser of each command, and of each subcommand."""
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from parsers(command, (*words, name))


COMMANDS = dict(parsers(cli.make_parser()))


@pytest.mark.parametrize(
    "command",
    [["train.py"], ["eval.py"], ["-m", "openseg_jax.predict"], ["-m", "converters"], ["-m", "converters", "import"]],
)
def test_help_has_an_example(command):
    out = commands.run(*command, "--help")
    assert "--" in out
    assert "    openseg " in out


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_describes_its_options(words, capsys):
    assert commands.call(*(words or ("--verbose",)), "--help") == 0
    out = capsys.readouterr().out
    assert f"openseg {' '.join(words)}".strip() in out.partition("\n\n")[2], "an example"
    original = words == ("convert", "config")  # whose flags are those of openseg.pytorch's main.py
    for action in COMMANDS[words]._actions:
        assert original or action.help or isinstance(action, argparse._SubParsersAction), action.option_strings
        assert all("-" not in option[2:] for option in action.option_strings)


def test_help_and_the_package_import_nothing_heavy():
    script = "import openseg_jax, sys; from openseg_jax import cli; cli.make_parser(); print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", script], cwd=commands.ROOT, text=True).split())
    assert not loaded & {"jax", "flax", "numpy", "cv2", "rich", "torch", "ml_collections"}
    assert set(openseg_jax.__all__) == set(dir(openseg_jax))
    assert openseg_jax.evaluate.__name__ == "evaluate"
    with pytest.raises(AttributeError, match="has no attribute 'evaluat'"):
        openseg_jax.evaluat  # noqa: B018


def parse(*arguments):
    return cli.make_parser().parse_args(arguments)


def test_one_convention_for_options():
    given = parse(
        "eval", "--config=a", "--config.train.steps=3", "--config.data.root", "b", "--checkpoint=c", "--out", "d"
    )
    assert given.changes == ["--config.train.steps=3", "--config.data.root", "b"]
    assert (given.config, given.checkpoint, given.out, given.resume, given.verbose) == ("a", "c", "d", True, False)
    needed = ["eval", "--config=a", "--checkpoint=c"]
    for text in ("--noresume", "--no_resume", "--no-resume", "--resume=false", "--resume=False"):
        assert not parse(*needed, text).resume
    assert parse(*needed, "--no-resume", "--resume=true", "--legacy-scores").resume
    assert parse(*needed, "--legacy-scores").legacy_scores
    assert parse("--verbose", *needed).verbose
    assert parse(*needed, "--verbose").verbose
    assert not parse("--verbose", *needed, "--noverbose").verbose
    given = parse("predict", "--out=x", "a.jpg", "--checkpoint", "y", "b.jpg", "--batch-size=3", "c-d.jpg")
    assert (given.images, given.batch_size) == (["a.jpg", "b.jpg", "c-d.jpg"], 3)
    assert parse("export", "x", "--out=y", "--size=3x4").size == (3, 4)
    assert parse("predict", "--checkpoint=x", "--out=y", "a", "--", "--b-c.jpg").images == ["a", "--b-c.jpg"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "COMMAND is missing"),
        (["trian"], "'trian'"),
        (["train"], "--config, --workdir are missing"),
        (["eval", "--config=a", "--checkpoint=b", "--resume=maybe"], "--resume is true or false, found 'maybe'"),
        (["eval", "--config=a", "--checkpoint=b", "--ressume"], "unknown option --ressume, did you mean --resume?"),
        (["eval", "--config=a", "--checkpoint=b", "more"], "unexpected argument 'more'"),
        (["models", "--config.seed=3"], "--config.seed changes a config, and `openseg models` takes none"),
        (["models", "--num_classes=many"], "invalid int value: 'many' (see `openseg models --help`)"),
        (["export", "x", "--out=y", "--size=3"], "--size is HEIGHTxWIDTH, such as 512x512, found '3'"),
        (["export", "x", "--out=y", "--size=²x3"], "--size is HEIGHTxWIDTH, such as 512x512, found"),
        (["export", "x", "--out=y", f"--size={'9' * 5000}x3"], "--size is HEIGHTxWIDTH, such as 512x512, found"),
        (["data", "replay", "--step=1", "--out=x"], "--config is missing, such as --config=camvid"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments, says, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert says in line


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
        (["--wrkdir=x"], "unknown option --wrkdir, did you mean --workdir?"),
        (["--config.model.name=hrnet_w99"], "lists, found 'hrnet_w99'"),
        (["--config.loss.name=dice"], '"segfix" or "ce2p", found \'dice\''),
        (["--config.data.source=web"], 'data.source must be "folder" or "synthetic"'),
        (["--config.data.source=folder"], "give --config.data.root=PATH"),
        (["--config.normalization.channels=gbr"], 'normalization.channels must be "rgb" or "bgr"'),
    ],
)
def test_wrong_input_is_one_sentence(arguments, says, tmp_path, capsys):
    message = commands.fails_here(capsys, "train", TRAIN[1], f"--workdir={tmp_path / 'run'}", *arguments)
    assert says in message
    assert not (tmp_path / "run" / "latest").exists() or not any((tmp_path / "run" / "latest").iterdir())


def test_missing_flags(capsys):
    assert "--config is missing" in commands.fails("train.py", "--workdir=x")
    assert "--workdir is missing" in commands.fails_here(capsys, "train", TRAIN[1])
    assert "--checkpoint is missing" in commands.fails("eval.py", "--config=configs/camvid.py")


def test_checkpoints_that_are_none(tmp_path, capsys):
    evaluate = ["eval", "--config=tests/training/config_file.py"]
    assert "there is no checkpoint folder" in commands.fails_here(
        capsys, *evaluate, f"--checkpoint={tmp_path / 'none'}"
    )
    assert "contains no checkpoint" in commands.fails_here(capsys, *evaluate, f"--checkpoint={tmp_path}")


def test_broken_data_is_reported_by_training(tmp_path, capsys):
    root = folders.write(tmp_path / "data")
    (root / "train" / "label" / "scene2.png").unlink()
    arguments = [
        "train", "--config=configs/folder.py", f"--workdir={tmp_path / 'run'}", f"--config.data.root={root}",
        f"--config.data.classes={root / 'classes.json'}",
    ]  # fmt: skip
    assert "have an image but no mask" in commands.fails_here(capsys, *arguments)
    folders.save(root / "train" / "label" / "scene2.png", np.full((48, 48), 42, np.uint8))
    message = commands.fails_here(capsys, *arguments)
    assert "42" in message
    assert "openseg data check" in message
    assert not (tmp_path / "run").exists()


def test_a_diverging_run_ends_with_code_one(tmp_path):
    changes = {"optimizer__learning_rate": 1e25, "train__steps": 50, "train__log_every": 1, "train__batch_size": 2}
    message = commands.fails(*TRAIN, f"--workdir={tmp_path}", *runs.flags(changes), code=1)
    assert "became nan at step" in message or "became inf at step" in message
