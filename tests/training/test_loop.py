"""Whole runs: resuming changes nothing, nothing is lost, and what goes wrong is said."""

import json
import os
import signal
import time

import jax
import numpy as np
import pytest

from openseg_jax import checkpoints, models
from openseg_jax.errors import InputError, RunError
from openseg_jax.training import loop
from tests import commands
from tests.training import runs

TRAIN = ["train.py", "--config=tests/training/config_file.py"]

pytestmark = pytest.mark.filterwarnings("ignore:.*sharding info not provided.*")


def variables(workdir, which="latest"):
    _, loaded, metadata = checkpoints.load(workdir / which)
    return jax.tree.map(np.asarray, loaded), metadata


def assert_bitwise_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    loop.train(runs.config(), workdir)
    return workdir


def test_what_a_run_leaves_behind(uninterrupted):
    assert {path.name for path in uninterrupted.iterdir()} == {
        "latest", "best", "metrics.jsonl", "events", "config.json",
    }  # fmt: skip
    _, metadata = variables(uninterrupted)
    assert metadata.step == 20
    assert metadata.classes.names[1] == "stripes"
    assert metadata.config["train"]["steps"] == 20
    best, best_metadata = variables(uninterrupted, "best")
    assert best_metadata.extra["miou"] == metadata.extra["best_miou"] > 0
    lines = metrics(uninterrupted)
    assert {"loss", "learning_rate", "images_per_second"} <= lines[1].keys()
    assert "val/miou" in lines[-1]
    assert list((uninterrupted / "events").iterdir())
    assert json.loads((uninterrupted / "config.json").read_text())["model"]["name"] == "spatial_ocrnet"


def test_augmentation_on_the_device_trains_alike(uninterrupted, tmp_path):
    loop.train(runs.config(augment__on_device=True, train__steps=1, eval__batch_size=8), tmp_path)
    ours, theirs = metrics(tmp_path)[0], metrics(uninterrupted)[0]
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
    several = {
        "augment__on_device": True,
        "augment__collate__mode": "multi_size",
        "augment__collate__sizes": ((32, 48),),
    }
    with pytest.raises(InputError, match="on_device gives batches of one size"):
        loop.train(runs.config(**several), tmp_path / "several")


@pytest.mark.parametrize("workers", [0, 1])
def test_stopping_and_resuming_changes_nothing(uninterrupted, tmp_path, monkeypatch, workers):
    """SIGTERM in the middle of step 10; the rest with another number of workers."""
    calls = iter(range(1000))
    put_batch = loop.sharding.put_batch

    def put(mesh, batch):
        if "box" in batch and next(calls) == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return put_batch(mesh, batch)

    monkeypatch.setattr(loop.sharding, "put_batch", put)
    loop.train(runs.config(), tmp_path)
    assert variables(tmp_path)[1].step == 10
    loop.train(runs.config(data__workers=workers), tmp_path)
    ours, metadata = variables(tmp_path)
    assert metadata.step == 20
    assert_bitwise_equal(ours, variables(uninterrupted)[0])
    steps = [line["step"] for line in metrics(tmp_path)]
    assert steps == sorted(steps)


def test_a_finished_run_stays_finished(uninterrupted):
    before = variables(uninterrupted)[0]
    assert loop.train(runs.config(), uninterrupted) == {}
    assert_bitwise_equal(variables(uninterrupted)[0], before)


def test_killed_at_any_moment_it_goes_on(tmp_path):
    """kill -9 while it saves after every step: what is on disk always restores, and steps never get lost."""
    changes = {"train__steps": 100_000, "train__save_every": 1, "train__log_every": 1}
    last_step = 0
    for delay in (0.0, 0.5):
        process = commands.start(*TRAIN, f"--workdir={tmp_path}", *runs.flags(changes), devices=8)
        deadline = time.monotonic() + 300
        try:
            while _newest_step(tmp_path) < last_step + 3:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline, "no progress"
                time.sleep(0.05)
            time.sleep(delay)
        finally:
            process.kill()
            process.communicate()
        loaded, metadata = variables(tmp_path)
        assert metadata.step > last_step
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(loaded))
        last_step = metadata.step


def _newest_step(workdir) -> int:
    folder = workdir / "latest"
    return max((int(p.name) for p in folder.iterdir() if p.name.isdigit()), default=0) if folder.is_dir() else 0


def test_two_processes_agree_with_one(tmp_path):
    """jax.distributed over gloo, each process with one device and half of every batch; the one process has two devices.

    (What a second device changes is the subject of test_step.py.)
    """
    changes = {"train__steps": 3, "train__batch_size": 4, "eval__batch_size": 2, "optimizer__learning_rate": 2e-3}
    arguments = [*TRAIN, *runs.flags(changes)]
    pair = [
        commands.start(
            *arguments, f"--workdir={tmp_path / 'two'}", "--coordinator=127.0.0.1:29517",
            "--process_count=2", f"--process_index={rank}",
        )
        for rank in range(2)
    ]  # fmt: skip
    results = [process.communicate(timeout=600) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], results
    commands.run(*arguments, f"--workdir={tmp_path / 'one'}", devices=2)
    (two, metadata), (one, expected) = variables(tmp_path / "two"), variables(tmp_path / "one")
    for a, b in zip(jax.tree.leaves(two), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1, float(np.abs(b).max())))
    np.testing.assert_allclose(metadata.extra["miou"], expected.extra["miou"], atol=1e-3)


def test_a_loss_that_becomes_nan_stops_the_run(tmp_path):
    config = runs.config(train__save_every=2, train__log_every=1, optimizer__learning_rate=1e25, train__steps=50)
    with pytest.raises(RunError, match=r"the .* became (nan|inf) at step \d+; the last checkpoint is from before"):
        loop.train(config, tmp_path)
    if (tmp_path / "latest").is_dir() and any((tmp_path / "latest").iterdir()):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables(tmp_path)[0]))


def test_nan_keeps_the_last_good_checkpoint(uninterrupted, tmp_path, monkeypatch):
    """From step 13 on the loss is NaN; the checkpoint of step 12 stays."""
    make = loop.make_train_step

    def poisoned(*arguments, **keywords):
        step = make(*arguments, **keywords)

        def run(state, batch):
            number = int(state["step"]) + 1
            state, result = step(state, batch)
            return state, result | {"loss": result["loss"] * (np.nan if number >= 13 else 1)}

        return run

    monkeypatch.setattr(loop, "make_train_step", poisoned)
    with pytest.raises(RunError, match="the loss became nan at step 13"):
        loop.train(runs.config(train__save_every=4), tmp_path)
    assert variables(tmp_path)[1].step == 12


def test_pretrained_weights(uninterrupted, tmp_path):
    source, metadata = variables(uninterrupted)
    config = runs.config(pretrained__checkpoint=str(uninterrupted / "latest"))
    model = loop.make_model(config, 6)
    fresh = models.init(model, 1)
    loaded = loop.with_pretrained(fresh, model, config)
    assert_bitwise_equal(loaded["params"]["backbone"], source["params"]["backbone"])
    assert_bitwise_equal(loaded["params"]["head"], fresh["params"]["head"])
    config.pretrained.parts = "all"
    assert_bitwise_equal(loop.with_pretrained(fresh, model, config), source)
    other = loop.make_model(config, 7)
    with pytest.raises(InputError, match="'num_classes': 6.* of which the all does not fit .*'num_classes': 7"):
        loop.with_pretrained(models.init(other), other, config)


def test_a_workdir_of_another_model_is_refused(uninterrupted):
    with pytest.raises(InputError, match="holds a run of .* take another --workdir"):
        loop.train(runs.config(model__options__channels=24), uninterrupted)
