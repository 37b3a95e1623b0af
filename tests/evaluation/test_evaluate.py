"""Evaluation of data sets with images of many sizes, and its commands."""

import dataclasses
import json
import os
import shutil
from unittest import mock

import jax
import numpy as np
import pytest
from PIL import Image

from openseg_jax import checkpoints, sharding
from openseg_jax.config import EvalSettings, load
from openseg_jax.data.normalize import Normalization
from openseg_jax.data.offset_files import read_offsets
from openseg_jax.errors import InputError, RunError
from openseg_jax.evaluation import progress
from openseg_jax.evaluation.evaluate import evaluate
from openseg_jax.inference import ArgMax, ConfusionCounts, Runner, writers
from openseg_jax.labels.refinement import refine
from openseg_jax.metrics.boundaries import f_scores
from openseg_jax.metrics.confusion import Confusion, confusion_matrix
from openseg_jax.predict import Predictor
from tests import commands, segmented, tiny
from tests.training import runs

pytestmark = [
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),  # of ml_collections
    pytest.mark.filterwarnings("ignore:.*found in sys.modules after import of package"),  # predict, as a command
]

READERS = {"labels": ArgMax(), "counts": ConfusionCounts(3)}


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    return segmented.write(tmp_path_factory.mktemp("data"))


def test_evaluate_command(setting, tmp_path):
    root, *_, source = setting
    data = [
        f"--config.data.root={root}",
        f"--config.data.classes={root / 'classes.json'}",
        "--config.eval.batch_size=1",
        "--legacy_scores",
    ]
    out = commands.run(
        "eval.py", "--config=configs/folder.py", f"--checkpoint={root / 'checkpoint'}", f"--out={tmp_path}", *data
    )
    assert "mIoU" in out
    for name in ("ground", "bar", "spot"):
        assert name in out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["images"] == 9
    assert np.sum(report["confusion"]) == sum((source[i]["label"] != 255).sum() for i in range(9))
    assert f"mIoU {100 * report['miou']:.2f} %" in out
    label = np.asarray(Image.open(tmp_path / "label" / "scene1.png"))
    assert label.shape == source.size(1)
    assert set(np.unique(label)) <= {3, 7, 9}, "ids as on disk"
    assert report["legacy"]["pixel_accuracy"] <= report["pixel_accuracy"]
    assert (tmp_path / "overlay" / "scene1.jpg").is_file()


def test_wrong_class_count(setting):
    config = runs.config()
    with pytest.raises(ValueError, match="holds a net of 3 classes, but synthetic textures has 6"):
        evaluate(config, str(setting[0] / "checkpoint"))


def places(root):
    return [f"--config.data.root={root}", f"--config.data.classes={root / 'classes.json'}"]


def evaluated(setting, out, **options):
    """Scores of the folder data set by the function behind the command."""
    root = setting[0]
    config = load("configs/folder.py", places(root))
    settings = dataclasses.replace(config.eval, **{"batch_size": 1} | options.pop("eval", {}))
    source = dataclasses.replace(config.data, **options.pop("data", {}))
    config = dataclasses.replace(config, eval=settings, data=source)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    with mock.patch.object(sharding, "make_mesh", return_value=mesh):
        return evaluate(config, str(root / "checkpoint"), out=out and str(out), **options)


@pytest.fixture(scope="module")
def whole(setting, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return evaluated(setting, out, boundaries=True, probabilities=True), out


def test_what_an_evaluation_leaves_behind(setting, whole):
    result, out = whole
    assert result["interval"][0] <= result["miou"] <= result["interval"][1]
    assert 0 <= result["boundary_iou"] <= 1
    assert 0 <= result["boundary_f_score"] <= 1
    page = (out / "report.html").read_text()
    assert page.count("data:image/jpeg") == 9
    assert "The worst images" in page
    header, *rows = (out / "images.csv").read_text().splitlines()
    assert header == "name,accuracy,miou"
    assert len(rows) == 9
    counts = np.load(out / "images.npz")["counts"]
    report = json.loads((out / "report.json").read_text())
    np.testing.assert_array_equal(counts.sum(0)[0], np.diag(report["confusion"]))
    np.testing.assert_array_equal(counts.sum(0)[1], np.sum(report["confusion"], axis=1))
    probabilities = np.load(out / "prob" / "scene1.npy")
    assert probabilities.dtype == np.float16
    assert probabilities.shape == (*setting[3].size(1), 3)
    label = np.asarray(Image.open(out / "label" / "scene1.png"))
    np.testing.assert_array_equal(np.array([3, 7, 9])[probabilities.argmax(-1)][label != 0], label[label != 0])
    assert not (out / "progress.npz").exists()


def test_killed_and_resumed_it_counts_the_same(setting, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS", 0)
    done = iter(range(100))
    write = writers.write_prediction

    def dies(*arguments):
        if next(done) == 4:
            raise KeyboardInterrupt
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(writers, "write_prediction", dies)
        with pytest.raises(KeyboardInterrupt):
            evaluated(setting, tmp_path, boundaries=True)
    assert (tmp_path / "progress.npz").exists()
    with pytest.raises(InputError, match="is of another evaluation .other eval.: delete it, or give --noresume"):
        evaluated(setting, tmp_path, boundaries=True, eval={"max_buckets": 1})
    with pytest.raises(InputError, match="other options"):
        evaluated(setting, tmp_path, boundaries=True, probabilities=True)
    image = setting[3].images[0]
    stamp = image.stat()
    image.touch()
    with pytest.raises(InputError, match="other data"):
        evaluated(setting, tmp_path, boundaries=True)
    os.utime(image, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    kept = (tmp_path / "progress.npz").read_bytes()
    for damaged in (
        kept[: len(kept) // 2],
        kept.replace(b"batches", b"botches"),
        b"",
        kept[:3000] + b"x" + kept[3001:],
    ):
        (tmp_path / "progress.npz").write_bytes(damaged)
        with pytest.raises(InputError, match="progress.npz is not"):
            evaluated(setting, tmp_path, boundaries=True)
    (tmp_path / "progress.npz").write_bytes(kept)
    resumed = evaluated(setting, tmp_path, boundaries=True)
    for name in ("miou", "interval", "boundary_iou", "boundary_f_score"):
        assert resumed[name] == whole[0][name], name
    for file in ("images.csv", "label/scene0.png", "label/scene8.png"):
        assert (tmp_path / file).read_bytes() == (whole[1] / file).read_bytes()
    counts = [np.load(out / "images.npz")["counts"] for out in (tmp_path, whole[1])]
    np.testing.assert_array_equal(*counts)


def test_classes_in_another_order_are_found_by_their_names(setting, whole, tmp_path):
    table = json.loads((setting[0] / "classes.json").read_text())
    ids = {row["name"]: row.setdefault("id", place) for place, row in enumerate(table["classes"])}
    assert len(ids) == 3
    table["classes"].reverse()
    (tmp_path / "reversed.json").write_text(json.dumps(table))
    changed = {"data": {"classes": str(tmp_path / "reversed.json")}, "eval": {"left_out": ("spot",)}}
    found = evaluated(setting, tmp_path / "o", **changed)
    np.testing.assert_array_equal(found["iou"], whole[0]["iou"])
    assert found["miou"] == pytest.approx(np.mean(found["iou"][:2]))
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "o" / "label" / "scene1.png")),
        np.asarray(Image.open(whole[1] / "label" / "scene1.png")),
    )


def test_results_do_not_replace_the_masks(setting):
    with pytest.raises(InputError, match="label exists, and `openseg eval` did not write it"):
        evaluated(setting, setting[0] / "val")


def test_what_cannot_be_read_is_left_out(setting, tmp_path, capsys):
    root = shutil.copytree(setting[0], tmp_path / "data")
    (root / "val" / "label" / "scene2.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(root / "val" / "label" / "scene5.png")
    (root / "val" / "image" / "scene1.png").write_bytes(b"no picture")
    (root / "val" / "image" / "scene7.png").unlink()
    with pytest.raises(RunError, match="4 images of val could not be read; the scores are of the 5 others"):
        evaluated((root, *setting[1:]), tmp_path / "out")
    out = " ".join(capsys.readouterr().out.split())
    assert "left out scene2:" in out
    assert "masks must have the size of their image" in out
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(found["failures"]) == {"scene1", "scene2", "scene5", "scene7"}
    assert "has no image" in found["failures"]["scene7"]
    assert 0 <= found["miou"] <= 1
    counts = np.load(tmp_path / "out" / "images.npz")["counts"]
    assert not counts[2].any()
    assert counts[3].any()


def test_each_image_counts_once_however_they_are_divided(setting, whole):
    """Batches of 1, 3 and 8, one device and eight: every pixel the same."""
    _, model, variables, source = setting
    expected = np.load(whole[1] / "images.npz")["counts"]
    for devices, batch_size in ((1, 3), (1, 8), (8, 8)):
        mesh = sharding.make_mesh(devices=jax.devices()[:devices])
        settings = EvalSettings(batch_size=batch_size, max_buckets=1)
        score = Confusion(3, images=len(source))
        for item in Runner(model, source, settings, READERS, Normalization(), mesh).run(
            sharding.put_replicated(mesh, variables)
        ):
            score.update(item)
        np.testing.assert_array_equal(score.images, expected)
        np.testing.assert_array_equal(np.diag(score.matrix), expected.sum(0)[0])


def test_two_processes_find_the_same(setting, whole, tmp_path):
    """Each writes the pictures of its own half; scores, boundary scores and what could not be read come together."""
    root, out = shutil.copytree(setting[0], tmp_path / "data"), tmp_path / "out"
    shutil.copy(root / "val" / "image" / "scene0.png", root / "val" / "image" / "scene9.png")
    (root / "val" / "label" / "scene9.png").write_bytes(b"no picture")
    arguments = ["eval.py", "--config=configs/folder.py", f"--checkpoint={root / 'checkpoint'}", f"--out={out}",
                 f"--config.data.root={root}", f"--config.data.classes={root / 'classes.json'}", "--boundaries",
                 "--config.eval.batch_size=2", "--coordinator=127.0.0.1:29531", "--process_count=2"]  # fmt: skip
    processes = [commands.start(*arguments, f"--process_index={index}") for index in range(2)]
    for process in processes:
        said = process.communicate(timeout=600)
        assert process.returncode == 1, said
        assert "1 images of val could not be read" in said[1]
    counts = np.load(out / "images.npz")["counts"]
    np.testing.assert_array_equal(counts[:9], np.load(whole[1] / "images.npz")["counts"])
    assert not counts[9].any()
    found = json.loads((out / "report.json").read_text())
    assert set(found["failures"]) == {"scene9"}
    for name in ("miou", "boundary_iou", "boundary_f_score"):
        assert found[name] == whole[0][name], name
    for index in range(9):
        file = f"label/scene{index}.png"
        assert (out / file).read_bytes() == (whole[1] / file).read_bytes()


def test_nothing_to_score(setting, tmp_path):
    root = shutil.copytree(setting[0], tmp_path / "data")
    for file in (root / "val" / "label").iterdir():
        Image.fromarray(np.full(np.asarray(Image.open(file)).shape[:2], 0, np.uint8)).save(file)
    with pytest.raises(InputError, match="no pixel of val is labelled, so there is nothing to score"):
        evaluated((root, *setting[1:]), None)
    shutil.rmtree(root / "val" / "image")
    (root / "val" / "image").mkdir()
    with pytest.raises(InputError, match="val.image contains no .png"):
        evaluated((root, *setting[1:]), None)


def test_a_split_without_masks_gets_predictions(setting, whole, tmp_path):
    root = shutil.copytree(setting[0], tmp_path / "data")
    shutil.copytree(root / "val" / "image", root / "test" / "image")
    assert evaluated((root, *setting[1:]), tmp_path / "out", split="test") == {}
    same = (tmp_path / "out" / "label" / "scene4.png").read_bytes()
    assert same == (whole[1] / "label" / "scene4.png").read_bytes()
    with pytest.raises(InputError, match="test has no masks, so there is nothing to score"):
        evaluated((root, *setting[1:]), None, split="test")


def test_comparing_two_reports(whole, tmp_path, capsys):
    assert commands.call("openseg_jax.evaluation", "compare", whole[1], whole[1]) == 0
    assert "mIoU +0.00 %" in capsys.readouterr().out
    assert "there is no" in commands.fails_here(capsys, "openseg_jax.evaluation", "compare", whole[1], tmp_path)


@pytest.fixture(scope="module")
def segfix(tmp_path_factory):
    """The checkpoint of a SegFix net."""
    folder, model = tmp_path_factory.mktemp("segfix"), tiny.create("segfix_hrnet")
    variables = tiny.random_variables(model)
    mask = variables["params"]["head"]["mask"]["classify"]
    mask["kernel"] = mask["kernel"][..., ::-1]  # or else it finds no boundary
    saved = checkpoints.Checkpoints(folder)
    saved.save(variables, checkpoints.Metadata(model.spec.to_dict(), Normalization()))
    saved.close()
    return folder


def test_refined_predictions_are_scored(setting, whole, segfix, tmp_path, capsys):
    """By a net, and by the files of offsets that it left: as refining each prediction and counting it."""
    root, *_, source = setting
    result = evaluated(setting, tmp_path / "net", boundaries=True, eval={"segfix": str(segfix)})
    before = result["before_refinement"]
    assert all(before[name] == whole[0][name] for name in before)
    assert before["miou"] != result["miou"]
    assert "before refinement: miou" in capsys.readouterr().out
    confusion, f = 0, []
    for index, name in enumerate(source.names):
        ids = Predictor(root / "checkpoint")([source[index]["image"]])[0]
        refined = np.asarray(refine(ids, read_offsets(tmp_path / "net" / "offsets" / f"{name}.npz"), scale=2))
        confusion += np.asarray(confusion_matrix(source[index]["label"], refined, 3))
        f.append(f_scores(refined, source[index]["label"], 3))
    np.testing.assert_array_equal(json.loads((tmp_path / "net" / "report.json").read_text())["confusion"], confusion)
    assert result["boundary_f_score"] == pytest.approx(np.nanmean(np.nanmean(f, axis=0)), rel=1e-12)
    (tmp_path / "net" / "offsets" / "scene3.npz").unlink()
    with pytest.raises(RunError, match="1 images of val could not be read; the scores are of the 8 others"):
        evaluated(setting, tmp_path / "files", eval={"segfix": str(tmp_path / "net" / "offsets")})
    assert "has no offsets for scene3" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(InputError, match="eval.segfix=nowhere is no folder"):
        evaluated(setting, None, eval={"segfix": "nowhere"})
    with pytest.raises(InputError, match="whose offsets are written: give --out"):
        evaluated(setting, None, eval={"segfix": str(segfix)})


def test_a_segfix_net_is_scored_for_its_boundaries(setting, segfix, capsys):
    root = setting[0]
    config = load("configs/segfix.py:folder", [*places(root), "--config.eval.batch_size=8"])
    found = evaluate(config, str(segfix))
    assert f"mask f score {100 * found['mask_f_score']:.2f} %" in capsys.readouterr().out
    with pytest.raises(InputError, match="segfix_hrnet predicts boundaries: give --config=segfix:DATASET"):
        evaluate(load("configs/folder.py", places(root)), str(segfix))
