"""Whole runs: resuming changes nothing, nothing is lost, and what goes wrong is said."""

import json
import os
import re
import shutil
import signal
import time

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from openseg_jax import checkpoints, compiled, converters, models
from openseg_jax.config import typed
from openseg_jax.data.images import write_image, write_mask
from openseg_jax.data.synthetic import SYNTHETIC_CLASSES
from openseg_jax.data.workers import WorkerError
from openseg_jax.errors import InputError, RunError
from openseg_jax.training import loop
from openseg_jax.training.dry_run import dry_run
from openseg_jax.training.memory import estimate_memory
from openseg_jax.training.pretrained import with_pretrained
from openseg_jax.training.profiling import parse_steps, top_operations
from openseg_jax.training.run_log import claimed
from openseg_jax.training.setup import make_model, make_run
from openseg_jax.training.step import TrainStep
from tests import commands, tiny
from tests.training import runs
from tests.training.test_step import batches

TRAIN = ["train.py", "--config=tests/training/config_file.py"]

pytestmark = pytest.mark.filterwarnings("ignore:.*sharding info not provided.*")


def variables(workdir, which="latest"):
    _, loaded, metadata = checkpoints.load(workdir / which)
    return jax.tree.map(np.asarray, loaded), metadata


def assert_bitwise_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def metrics(workdir):
    path = workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    loop.train(runs.config(), workdir)
    return workdir


def test_what_a_run_leaves_behind(uninterrupted):
    assert {path.name for path in uninterrupted.iterdir()} == {
        "latest", "best", "metrics.jsonl", "metrics.csv", "events", "config.json", "validation.json", "overlay",
        "report.html", ".openseg",
    }  # fmt: skip
    _, metadata = variables(uninterrupted)
    assert metadata.step == 20
    assert metadata.classes.names[1] == "stripes"
    assert metadata.config["train"]["steps"] == 20
    best, best_metadata = variables(uninterrupted, "best")
    assert best_metadata.extra["score"] == metadata.extra["best_score"] > 0
    lines = metrics(uninterrupted)
    assert {"loss", "learning_rate/backbone", "learning_rate/head", "images_per_second"} <= lines[1].keys()
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


def test_a_finished_run_stays_finished_and_tells_its_score_again(uninterrupted, capsys):
    before, metadata = variables(uninterrupted)
    assert loop.train(runs.config(), uninterrupted) == {"miou": metadata.extra["score"]}
    assert "the run has ended" in capsys.readouterr().out
    assert_bitwise_equal(variables(uninterrupted)[0], before)


def test_a_run_ends_when_validations_get_no_better(tmp_path, capsys):
    """A learning rate of nearly 0 changes nothing; what is waited for survives a stop."""
    changes = {"optimizer__learning_rate": 1e-30, "train__eval_every": 2, "train__patience": 2, "train__steps": 12}
    loop.train(runs.config(**changes), tmp_path)
    assert "ended after step 6: the last 2 validations were no better" in capsys.readouterr().out
    loop.train(runs.config(**changes), tmp_path)
    assert "the run has ended" in capsys.readouterr().out
    assert variables(tmp_path)[1].step == 6
    loop.train(runs.config(**changes | {"train__patience": 3}), tmp_path)
    assert "changed are train.patience from 2 to 3" in (told := capsys.readouterr().out)
    assert "ended after step 8" in told


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


def test_two_processes_save_together_when_one_is_told_to_end(tmp_path):
    """SIGTERM reaches one of two; both save after the same step. One process with two devices then goes on."""
    changes = {"train__steps": 100_000, "train__batch_size": 4, "eval__batch_size": 2, "train__log_every": 1}
    arguments = [*TRAIN, f"--workdir={tmp_path}", "--coordinator=127.0.0.1:29517", "--process_count=2"]
    pair = [commands.start(*arguments, *runs.flags(changes), f"--process_index={rank}") for rank in range(2)]
    deadline = time.monotonic() + 300
    while not metrics(tmp_path) or metrics(tmp_path)[-1]["step"] < 3:
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.05)
    pair[1].terminate()
    results = [process.communicate(timeout=300) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], results
    stopped = variables(tmp_path)[1].step
    assert stopped >= 3
    assert f"asked to end: saved after step {stopped}" in results[0][0]
    out = commands.run(*TRAIN, f"--workdir={tmp_path}", *runs.flags(changes | {"train__steps": stopped + 1}), devices=2)
    assert f"continuing after step {stopped}, from" in out
    assert variables(tmp_path)[1].step == stopped + 1


MODES = {
    "train__steps": 8,
    "train__save_every": 4,
    "train__eval_every": 4,
    "train__ema": 0.9,
    "train__accumulate": 2,
    "schedule__name": "swa_poly",
}


@pytest.mark.parametrize("changes", [MODES, MODES | {"schedule__name": "plateau", "schedule__plateau__patience": 0}])
def test_resuming_changes_nothing_in_any_mode(tmp_path, changes):
    """EMA, accumulation, SWA or plateau, random crops: stopped after step 4, when a validation was due."""
    changes |= {"train__batch_size": 16}
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_run", lambda config: made.append(make_run(config)) or made[-1])
        loop.train(runs.config(**changes), tmp_path / "whole")
    assert made[0].step.compiled._cache_size() == 1, "validations in between compiled the step again"
    stop = {"at": 4}
    put_batch = loop.sharding.put_batch

    def put(mesh, batch):
        if "box" in batch:
            stop["at"] -= 1
            if stop["at"] == 0:
                os.kill(os.getpid(), signal.SIGTERM)
        return put_batch(mesh, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.sharding, "put_batch", put)
        loop.train(runs.config(**changes), tmp_path / "parts")
    assert variables(tmp_path / "parts")[1].step == 4
    loop.train(runs.config(**changes), tmp_path / "parts")
    for which in ("latest", "best"):
        assert_bitwise_equal(*(variables(tmp_path / run, which)[0] for run in ("parts", "whole")))


def test_a_full_disk_ends_the_run_with_what_was_saved(tmp_path):
    """No file may grow any more while step 8 is saved; started again, the run goes on from step 4."""
    changes = {"train__save_every": 4, "train__steps": 12, "train__log_every": 4}
    arguments = [f"--workdir={tmp_path}", *runs.flags(changes)]
    out = commands.run("-m", "tests.training.full_disk", "8", TRAIN[1], *arguments, expect=1)
    assert re.search("error: a checkpoint could not be .* File too large.*; the last good one is of step 4", out)
    out = commands.run(*TRAIN, *arguments)
    assert f"continuing after step 4, from {tmp_path / 'latest'}" in out
    assert variables(tmp_path)[1].step == 12


def test_restoring_onto_other_devices(uninterrupted, tmp_path):
    """From eight devices to two and to one, with a divided optimizer state."""
    changes = {"mesh__shard_optimizer": True, "train__steps": 2, "train__log_every": 1}
    loop.train(runs.config(**changes), tmp_path / "eight")
    more = changes | {"train__steps": 3, "mesh__shard_optimizer": False}
    for devices in (2, 1):
        shutil.copytree(tmp_path / "eight", tmp_path / str(devices))
        commands.run(*TRAIN, f"--workdir={tmp_path / str(devices)}", *runs.flags(more), devices=devices)
    loop.train(runs.config(**more), tmp_path / "eight")
    expected = metrics(tmp_path / "eight")
    for devices in (2, 1):
        ours = [line["loss"] for line in metrics(tmp_path / str(devices)) if "loss" in line]
        np.testing.assert_allclose(ours, [line["loss"] for line in expected if "loss" in line], rtol=1e-6)


def test_a_loss_that_becomes_nan_stops_the_run(tmp_path):
    config = runs.config(train__save_every=2, train__log_every=1, optimizer__learning_rate=1e25, train__steps=50)
    with pytest.raises(RunError, match=r"the .* became (nan|inf) at step \d+; the last checkpoint is from before"):
        loop.train(config, tmp_path)
    if (tmp_path / "latest").is_dir() and any((tmp_path / "latest").iterdir()):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables(tmp_path)[0]))


def test_nan_keeps_the_last_good_checkpoint(uninterrupted, tmp_path, monkeypatch):
    """From step 13 on the loss is NaN; the checkpoint of step 12 stays."""
    step = TrainStep.__call__

    def poisoned(self, leaves, batch):
        number = int(self.unpack(leaves).step) + 1
        leaves, result = step(self, leaves, batch)
        return leaves, result | {"loss": result["loss"] * (np.nan if number >= 13 else 1)}

    monkeypatch.setattr(TrainStep, "__call__", poisoned)
    with pytest.raises(RunError, match="the loss became nan at step 13"):
        loop.train(runs.config(train__save_every=4), tmp_path)
    assert variables(tmp_path)[1].step == 12


def test_pretrained_weights(uninterrupted, tmp_path):
    source, metadata = variables(uninterrupted)
    config = runs.config(pretrained__checkpoint=str(uninterrupted / "latest"))
    model = make_model(config.model, 6)
    fresh = models.init(model, 1)
    loaded, what = with_pretrained(fresh, model, config.pretrained, SYNTHETIC_CLASSES)
    assert what == f"backbone from {uninterrupted / 'latest'}"
    assert_bitwise_equal(loaded["params"]["backbone"], source["params"]["backbone"])
    assert_bitwise_equal(loaded["params"]["head"], fresh["params"]["head"])
    config.pretrained.parts = "all"
    assert_bitwise_equal(with_pretrained(fresh, model, config.pretrained, SYNTHETIC_CLASSES)[0], source)
    other = make_model(config.model, 7)
    with pytest.raises(InputError, match="'num_classes': 6.* of which the all does not fit .*'num_classes': 7"):
        with_pretrained(models.init(other), other, config.pretrained, SYNTHETIC_CLASSES)
    config.pretrained.parts = "matching"
    loaded, what = with_pretrained(models.init(other), other, config.pretrained, SYNTHETIC_CLASSES)
    assert_bitwise_equal(loaded["params"]["backbone"], source["params"]["backbone"])
    assert "; new are params.head.aux.classify.bias" in what


def test_pretrained_weights_of_a_pytorch_file(uninterrupted, tmp_path):
    """An ImageNet file of batch norms, for a net with another norm; and a whole net, trained on other classes."""
    torch = pytest.importorskip("torch")
    source, _ = variables(uninterrupted)
    config = runs.config(model__norm="inplace_abn")
    model = make_model(config.model, 6)
    state_dict = converters.export_state_dict(source, make_model(runs.config().model, 6))
    torch.save(state_dict, tmp_path / "whole.pth")
    torch.save({k: v for k, v in state_dict.items() if k.startswith("backbone.")}, tmp_path / "backbone.pth")
    config.pretrained.checkpoint = str(tmp_path / "backbone.pth")
    loaded, _ = with_pretrained(models.init(model), model, config.pretrained, SYNTHETIC_CLASSES)
    assert_bitwise_equal(loaded["params"]["backbone"], source["params"]["backbone"])
    config.pretrained.update({"checkpoint": str(tmp_path / "none.pth")})
    with pytest.raises(InputError, match="there is no checkpoint folder"):
        with_pretrained(models.init(model), model, config.pretrained, SYNTHETIC_CLASSES)


def test_a_workdir_of_another_model_is_refused(uninterrupted):
    with pytest.raises(InputError, match="holds a run of .* take another --workdir"):
        loop.train(runs.config(model__options__channels=24), uninterrupted)


def test_a_workdir_belongs_to_one_run(tmp_path):
    busy = pytest.raises(InputError, match=f"another process is writing to {tmp_path}: wait")
    with claimed(tmp_path), busy, claimed(tmp_path):
        pass
    with claimed(tmp_path):
        pass


def test_a_workdir_of_other_files_is_refused(tmp_path):
    (tmp_path / "best").mkdir()
    with pytest.raises(InputError, match="best exists, and `openseg train` did not write it"), claimed(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    (tmp_path / "latest" / "7" / "metadata").mkdir(parents=True)  # of a run of an earlier version
    with claimed(tmp_path):
        pass


def test_a_killed_loader_ends_the_run_with_what_was_saved(tmp_path):
    def loaded():
        yield {}
        raise WorkerError("a worker process was killed")

    for saved in ("no checkpoint was saved yet", "the last checkpoint is of step 12"):
        batches = loop._explained(loaded(), tmp_path)
        assert next(batches) == {}
        with pytest.raises(RunError, match=f"a worker process was killed; {saved}: run the same command again, with f"):
            next(batches)
        for step in (4, 12):
            (tmp_path / "latest" / str(step)).mkdir(parents=True, exist_ok=True)


def test_the_report_and_the_pictures(uninterrupted):
    page = (uninterrupted / "report.html").read_text()
    for part in (
        "training loss",
        "learning rate",
        "gradient norm",
        "confusion",
        "stripes",
        "Predictions, beside the truth",
    ):
        assert part in page
    assert page.count("data:image/jpeg") == 4
    assert not re.search(r'src="(?!data:)', page)
    header, *rows = (uninterrupted / "metrics.csv").read_text().splitlines()
    assert header.startswith("step,gradient_norm,learning_rate/backbone,learning_rate/head,loss")
    assert len(rows) == len(metrics(uninterrupted))


def test_dry_run(tmp_path, capsys):
    """Prints what a run would be, and trains nothing."""
    config = runs.config(optimizer__freeze=("backbone.stem",), optimizer__decay_norms_and_biases=False)
    dry_run(config, tmp_path, compile_step=False)
    out = capsys.readouterr().out
    for part in ("spatial_ocrnet on deepbase_resnet101_dilated8, 6 classes", "backbone.stages", "frozen", "activations",
                 "head, norms and biases", "name: aux_ce", "24 training and 5 validation samples"):  # fmt: skip
        assert part in out, part
    assert {path.name for path in (tmp_path / "dry_run").iterdir()} == {"config.json", "schedule.png", "batch.jpg"}
    assert not (tmp_path / "latest").exists()
    run = make_run(typed(config))
    batch = next(batches(1))
    memory = estimate_memory(run.step, batch, run.mesh.size)
    parameters = sum(x.size for x in jax.tree.leaves(models.shapes(run.model)["params"]))
    assert memory.gradients == 4 * parameters
    assert memory.state >= 2 * memory.gradients
    assert memory.kept > 8 * 32 * 48 * 3 * 4 / 4  # more than the images of one of four devices


def test_dry_run_shows_what_the_compiler_says(tmp_path, monkeypatch, capsys):
    """The compiler for GPUs, which may not be installed here, is stood for: tests/gpu has the real one."""
    facts = {"compile_s": 61.3, "peak_memory": 3 * 2**30, "kernels": 8059, "read": 9e10, "written": 5e10}
    monkeypatch.setattr(compiled, "installed", lambda: True)
    monkeypatch.setattr(compiled, "compile_program", lambda *_, **__: facts)
    dry_run(runs.config(), tmp_path)
    assert (
        "compiled in 61 s: 3.00 GiB on one device (8,059 kernels, 140.0 GB moved in a step)" in capsys.readouterr().out
    )

    def fails(*_, **__):
        raise RunError("the compiler for h200 failed: INTERNAL")

    monkeypatch.setattr(compiled, "compile_program", fails)
    dry_run(runs.config(), tmp_path)
    assert "the compiler for h200 failed: INTERNAL; the estimate" in capsys.readouterr().out


def test_profile(tmp_path, capsys):
    loop.train(runs.config(train__steps=2), tmp_path, profile_steps=(2, 2))
    out = capsys.readouterr().out
    assert "steps 2 to 2" in out
    assert "ms per step" in out
    assert top_operations(tmp_path / "profile")[0][1] > 0
    with pytest.raises(InputError, match="--profile_steps takes FIRST:LAST, such as 10:15, found '5'"):
        parse_steps("5")


def test_segfix_and_ce2p_train(tmp_path):
    """With nothing but a folder's labels: SegFix takes its distances and directions from them, CE2P its edges."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in range(8):
            folder = tmp_path / "data" / split
            for kind in ("image", "label"):
                (folder / kind).mkdir(parents=True, exist_ok=True)
            label = np.kron(rng.integers(0, 11, (3, 4)), np.ones((16, 16))).astype(np.uint8)
            write_image(folder / "image" / f"{name}.png", np.repeat(label[..., None] * 20, 3, axis=2))
            write_mask(folder / "label" / f"{name}.png", label, np.zeros((256, 3), np.uint8))
    common = {
        "data__source": "folder",
        "data__root": str(tmp_path / "data"),
        "data__classes": "camvid",
        "train__steps": 2,
    }
    segfix = {"loss__name": "segfix", "data__maps": ("offset",), "model__backbone": "deepbase_resnet18_dilated8"}
    segfix |= {"model__options": ConfigDict(tiny.RESNET | {"channels": 8})}
    result = loop.train(runs.config("segfix_hrnet", **common, **segfix), tmp_path / "segfix")
    directions = {"direction_accuracy", "direction_accuracy_predicted"}
    assert set(result) == directions | {"mask_accuracy", "mask_precision", "mask_recall", "mask_f_score"}
    assert 0 < result["mask_accuracy"] < 1
    assert len(list((tmp_path / "segfix" / "overlay").iterdir())) == 4
    result = loop.train(runs.config("ce2p_asp_ocrnet", **common, loss__name="ce2p"), tmp_path / "ce2p")
    assert 0 <= result["miou"] <= 1
    with pytest.raises(InputError, match="loss.name=segfix needs 'offset' in data.maps"):
        loop.train(runs.config("segfix_hrnet", **common, **segfix | {"data__maps": ()}), tmp_path / "none")
