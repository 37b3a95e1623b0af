"""Evaluation of data sets with images of many sizes, and its commands."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from openseg_jax import checkpoints, models, sharding
from openseg_jax.data import FolderSource, load_classes
from openseg_jax.data.normalize import Normalization, normalize
from openseg_jax.data.transforms import min_side_size, resize
from openseg_jax.errors import InputError
from openseg_jax.evaluation.evaluate import evaluate
from openseg_jax.evaluation.inference import Evaluator, predict
from openseg_jax.evaluation.metrics import confusion_matrix
from openseg_jax.models.layers import FeatureMap
from openseg_jax.models.resize import cubic
from tests import commands, tiny
from tests.data import folders
from tests.training import runs


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A folder data set of nine images in three sizes, high enough to be split, and a checkpoint for it."""
    root = folders.write(tmp_path_factory.mktemp("data"), counts=(6, 9), sizes=((140, 40), (133, 64), (151, 48)))
    model = tiny.create("hrnet_w48", num_classes=3)
    variables = tiny.random_variables(model)
    saved = checkpoints.Checkpoints(root / "checkpoint")
    classes = load_classes(str(root / "classes.json"))
    saved.save(variables, checkpoints.Metadata(model.spec.to_dict(), Normalization(), classes))
    saved.close()
    return root, model, variables, FolderSource(str(root), "val", classes)


def one_by_one(model, variables, source, min_side):
    """The plain way: each image alone, at its own size, through a program of its own."""
    run = jax.jit(lambda variables, images: models.apply(model, variables, images)["out"])
    total, predictions = 0, []
    for index in range(len(source)):
        sample = source[index]
        image, (height, width) = sample["image"], sample["label"].shape
        if min_side:
            image = resize(sample, *min_side_size(height, width, min_side))["image"]
        box = np.array([[0, 0, *image.shape[:2]]])
        logits = run(variables, normalize(image[None], box, Normalization()))
        logits = cubic(FeatureMap(logits), like=FeatureMap(np.zeros((1, height, width, 1)))).values
        predictions.append(np.argmax(logits[0], -1))
        total = total + np.asarray(confusion_matrix(sample["label"], predictions[-1], 3))
    return total, predictions


@pytest.mark.parametrize(("spatial", "batch_size", "max_buckets", "min_side"), [(1, 8, 1, 40), (2, 4, 2, 0)])
def test_padded_batches_on_any_mesh_score_as_each_image_alone(setting, spatial, batch_size, max_buckets, min_side):
    _, model, variables, source = setting
    mesh = sharding.make_mesh(spatial)
    config = runs.config(eval__batch_size=batch_size, eval__max_buckets=max_buckets, eval__min_side=min_side).eval
    seen = {}
    confusion = Evaluator(model, config, source, Normalization(), mesh).run(
        sharding.put_replicated(mesh, variables), on_prediction=seen.__setitem__
    )
    expected, predictions = one_by_one(model, variables, source, min_side)
    assert sorted(seen) == list(range(9))
    assert confusion.sum() == expected.sum() == sum((source[i]["label"] != 255).sum() for i in range(9))
    assert sum((seen[i] != predictions[i]).sum() for i in range(9)) <= 2, "more than a tie or two between classes"
    assert np.abs(confusion - expected).sum() <= 4


def test_one_program_per_bucket(setting):
    _, model, variables, source = setting
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    evaluator = Evaluator(
        model, runs.config(eval__max_buckets=2, eval__batch_size=2).eval, source, Normalization(), mesh
    )
    for _ in range(2):
        evaluator.run(sharding.put_replicated(mesh, variables))
    assert evaluator._step._cache_size() == len(evaluator.buckets) == 2


def test_evaluate_command(setting, tmp_path):
    root, *_, source = setting
    data = [
        f"--config.data.root={root}",
        f"--config.data.classes={root / 'classes.json'}",
        "--config.eval.batch_size=1",
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
    assert (tmp_path / "overlay" / "scene1.jpg").is_file()


def test_predict_command(setting, tmp_path, capsys):
    root = setting[0]
    pictures = [root / "val" / "image" / f"scene{i}.png" for i in (0, 3, 6)]
    arguments = ["openseg_jax.predict", f"--checkpoint={root / 'checkpoint'}", f"--out={tmp_path}"]
    assert commands.call(*arguments, *pictures) == 0
    for picture in pictures:
        label = np.asarray(Image.open(tmp_path / "label" / f"{picture.stem}.png"))
        assert label.shape == np.asarray(Image.open(picture)).shape[:2]
        assert (tmp_path / "overlay" / f"{picture.stem}.jpg").is_file()
    assert "called scene0" in commands.fails_here(capsys, *arguments, pictures[0], pictures[0])
    assert "nothing.png" in commands.fails_here(capsys, *arguments, root / "nothing.png")


def test_wrong_class_count(setting):
    config = runs.config()
    with pytest.raises(ValueError, match="holds a net of 3 classes, but synthetic textures has 6"):
        evaluate(config, str(setting[0] / "checkpoint"))


def test_what_cannot_be_evaluated_says_why(setting):
    source = setting[3]
    for name, changes, says in (
        ("segfix_hrnet", {}, "predicts boundaries, not classes"),
        ("hrnet48", {}, "is a backbone alone, which segments nothing"),
        ("ideal_gather_ocrnet", {"eval__min_side": 40}, "is told the labels, which eval.min_side does not resize"),
    ):
        config = runs.config(**changes).eval
        with pytest.raises(InputError, match=says):
            Evaluator(tiny.create(name), config, source, Normalization(), sharding.make_mesh())


def test_ideal_nets_are_told_the_truth(setting):
    """Both halves of a batch are the same picture, with other labels."""
    model = tiny.create("ideal_spatial_ocrnet", num_classes=3)
    labels = np.zeros((2, 33, 47), np.uint8)
    labels[1, :, 20:] = 2
    size = np.tile(np.array([[33, 47]], np.int32), (2, 1))
    picture = np.random.default_rng(0).integers(0, 256, (1, 33, 47, 3)).astype(np.uint8)
    batch = {"image": np.repeat(picture, 2, axis=0), "size": size, "label": labels, "label_size": size}
    variables = tiny.random_variables(model)
    ids = np.asarray(predict(model, variables, batch, Normalization(), resized=False))
    assert (ids[0] != ids[1]).any()
