"""Evaluation of data sets with images of many sizes, and its commands."""

import json
import shutil
from unittest import mock

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

from openseg_jax import checkpoints, models, sharding
from openseg_jax.config import EvalSettings
from openseg_jax.config import load_dict as load_config
from openseg_jax.data import FolderSource, load_classes
from openseg_jax.data.normalize import Normalization, normalize
from openseg_jax.data.offset_files import read_offsets
from openseg_jax.data.transforms import min_side_size, resize
from openseg_jax.errors import InputError, RunError
from openseg_jax.evaluation import progress
from openseg_jax.evaluation.evaluate import evaluate
from openseg_jax.inference import ArgMax, ConfusionCounts, Runner, writers
from openseg_jax.inference.forward import Forward
from openseg_jax.labels.refinement import refine
from openseg_jax.metrics.boundaries import f_scores
from openseg_jax.metrics.confusion import Confusion, confusion_matrix
from openseg_jax.models.layers import Canvas, FeatureMap
from openseg_jax.models.resize import cubic
from openseg_jax.predict import Predictor
from tests import commands, tiny
from tests.data import folders
from tests.training import runs

pytestmark = [
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),  # of ml_collections
    pytest.mark.filterwarnings("ignore:.*found in sys.modules after import of package"),  # predict, as a command
]


READERS = {"labels": ArgMax(), "counts": ConfusionCounts(3)}


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
        logits = cubic(FeatureMap(logits), to=Canvas(height, width)).values
        predictions.append(np.argmax(logits[0], -1))
        total = total + np.asarray(confusion_matrix(sample["label"], predictions[-1], 3))
    return total, predictions


@pytest.mark.parametrize(("spatial", "batch_size", "max_buckets", "min_side"), [(1, 8, 1, 40), (2, 4, 2, 0)])
def test_padded_batches_on_any_mesh_score_as_each_image_alone(setting, spatial, batch_size, max_buckets, min_side):
    _, model, variables, source = setting
    mesh = sharding.make_mesh(spatial)
    settings = EvalSettings(batch_size=batch_size, max_buckets=max_buckets, min_side=min_side)
    runner = Runner(model, source, settings, READERS, Normalization(), mesh)
    items = list(runner.run(sharding.put_replicated(mesh, variables)))
    seen, confusion = {item.index: item["labels"] for item in items}, sum(item["counts"] for item in items)
    expected, predictions = one_by_one(model, variables, source, min_side)
    assert sorted(seen) == list(range(9))
    assert confusion.sum() == expected.sum() == sum((source[i]["label"] != 255).sum() for i in range(9))
    assert sum((seen[i] != predictions[i]).sum() for i in range(9)) <= 2, "more than a tie or two between classes"
    assert np.abs(confusion - expected).sum() <= 4


def test_one_program_per_bucket(setting):
    _, model, variables, source = setting
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    runner = Runner(model, source, EvalSettings(max_buckets=2, batch_size=2), READERS, Normalization(), mesh)
    for again in (runner, runner, runner.over(source)):
        assert [item.index for item in again.run(sharding.put_replicated(mesh, variables))] == runner.order
    assert runner._step._cache_size() == len(runner.buckets) == 2


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


def test_predict_command_finds_pictures(setting, tmp_path, capsys):
    """A folder, a pattern, a list, a video."""
    root = setting[0]
    images = root / "val" / "image"
    arguments = ["openseg_jax.predict", f"--checkpoint={root / 'checkpoint'}", f"--out={tmp_path / 'out'}"]
    (tmp_path / "list.txt").write_text(f"{images / 'scene3.png'}\n\n{images / 'scene4.png'}\n")
    film = cv2.VideoWriter(str(tmp_path / "film.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(3):
        film.write(np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8))
    film.release()
    assert commands.call(*arguments, images / "scene[01].png", tmp_path / "list.txt", tmp_path / "film.mp4") == 0
    assert {p.stem for p in (tmp_path / "out" / "label").iterdir()} == {"scene0", "scene1", "scene3", "scene4"}
    assert cv2.VideoCapture(str(tmp_path / "out" / "film.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert "no image or video fits" in commands.fails_here(capsys, *arguments, images / "none*.png")
    (tmp_path / "empty.mp4").write_bytes(b"")
    assert "cannot read the video" in commands.fails_here(capsys, *arguments, tmp_path / "empty.mp4")


def test_predictor_in_python(setting):
    """Mixed sizes in one call are as each alone; probabilities agree with the labels."""
    predictor = Predictor(setting[0] / "checkpoint")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3)).astype(np.uint8) for h, w in ((40, 64), (57, 33), (64, 41))]
    together = predictor(images)
    for image, labels in zip(images, together, strict=True):
        assert labels.shape == image.shape[:2]
        assert (predictor([image])[0] != labels).sum() <= 1
    (probabilities,) = predictor(images[:1], probabilities=True)
    assert (probabilities.argmax(-1) != together[0]).mean() < 0.01
    np.testing.assert_allclose(probabilities.astype(np.float32).sum(-1), 1, atol=5e-3)
    with pytest.raises(InputError, match=r"image 0 is float64 \(4, 4\), wanted uint8"):
        predictor([np.zeros((4, 4))])
    with pytest.raises(InputError, match="unknown option 'scale'"):
        Predictor(setting[0] / "checkpoint", scale=2)


def test_wrong_class_count(setting):
    config = runs.config()
    with pytest.raises(ValueError, match="holds a net of 3 classes, but synthetic textures has 6"):
        evaluate(config, str(setting[0] / "checkpoint"))


def test_what_cannot_be_evaluated_says_why(setting):
    source = setting[3]
    for name, changes, says in (
        ("segfix_hrnet", {}, "predicts boundaries, not classes"),
        ("hrnet48", {}, "is a backbone alone, which segments nothing"),
        ("ideal_gather_ocrnet", {"min_side": 40}, "is given the labels: take eval.protocol=single"),
    ):
        with pytest.raises(InputError, match=says):
            Runner(tiny.create(name), source, EvalSettings(**changes), READERS, Normalization(), sharding.make_mesh())


def test_ideal_nets_are_told_the_truth(setting):
    """Both halves of a batch are the same picture, with other labels."""
    model = tiny.create("ideal_spatial_ocrnet", num_classes=3)
    labels = np.zeros((2, 33, 47), np.uint8)
    labels[1, :, 20:] = 2
    box = np.tile(np.array([[0, 0, 33, 47]], np.int32), (2, 1))
    picture = np.random.default_rng(0).integers(0, 256, (1, 33, 47, 3)).astype(np.uint8)
    batch = {"image": np.repeat(picture, 2, axis=0), "label": labels, "box": box, "net_box": box, "label_box": box}
    variables = tiny.random_variables(model)
    ids = np.argmax(Forward(model, variables, batch, Normalization()).read(), axis=-1)
    assert (ids[0] != ids[1]).any()


def evaluated(setting, out, **options):
    """Scores of the folder data set by the function behind the command."""
    root = setting[0]
    config = load_config("configs/folder.py", [])
    config.data.root, config.data.classes = str(root), str(root / "classes.json")
    config.eval.update({"batch_size": 1} | options.pop("eval", {}))
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
    resumed = evaluated(setting, tmp_path, boundaries=True)
    for name in ("miou", "interval", "boundary_iou", "boundary_f_score"):
        assert resumed[name] == whole[0][name], name
    for file in ("images.csv", "label/scene0.png", "label/scene8.png"):
        assert (tmp_path / file).read_bytes() == (whole[1] / file).read_bytes()
    counts = [np.load(out / "images.npz")["counts"] for out in (tmp_path, whole[1])]
    np.testing.assert_array_equal(*counts)


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
    arguments = [f"--config.data.root={root}", f"--config.data.classes={root / 'classes.json'}"]
    config = load_config("configs/segfix.py:folder", [*arguments, "--config.eval.batch_size=8"])
    found = evaluate(config, str(segfix))
    assert f"mask f score {100 * found['mask_f_score']:.2f} %" in capsys.readouterr().out
    config.data.maps = ()
    with pytest.raises(InputError, match="segfix_hrnet predicts boundaries: take configs/segfix.py"):
        evaluate(config, str(segfix))
