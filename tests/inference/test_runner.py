"""The runner: padded batches on any mesh, programs, and what it refuses."""

import jax
import numpy as np
import pytest

from openseg_jax import models, sharding
from openseg_jax.config import EvalSettings
from openseg_jax.data.normalize import Normalization, normalize
from openseg_jax.data.transforms import min_side_size, resize
from openseg_jax.errors import InputError
from openseg_jax.inference import ArgMax, ConfusionCounts, Runner
from openseg_jax.inference.forward import Forward
from openseg_jax.metrics.confusion import confusion_matrix
from openseg_jax.models.layers import Canvas, FeatureMap
from openseg_jax.models.resize import cubic
from tests import segmented, tiny

READERS = {"labels": ArgMax(), "counts": ConfusionCounts(3)}


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    return segmented.write(tmp_path_factory.mktemp("data"))


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


class Flaky:
    """The images of a source, of which one cannot be read, and another not even its size."""

    def __init__(self, source):
        self._source, self.names, self.classes = source, source.names, source.classes

    def __len__(self):
        return len(self._source)

    def size(self, index):
        if index == 2:
            raise InputError("no size")
        return self._source.size(index)

    def __getitem__(self, index):
        if index == 4:
            raise InputError("no image")
        return self._source[index]


def test_results_are_copied_when_they_are_taken_and_errors_raised(setting, monkeypatch):
    _, model, variables, source = setting
    mesh, copied = sharding.make_mesh(devices=jax.devices()[:1]), []
    local_rows = sharding.local_rows
    monkeypatch.setattr(sharding, "local_rows", lambda array: copied.append(array.shape) or local_rows(array))
    runner = Runner(model, Flaky(source), EvalSettings(batch_size=4), READERS, Normalization(), mesh)
    variables = sharding.put_replicated(mesh, variables)
    items = {item.index: item for item in runner.run(variables)}
    assert sorted(items) == list(range(9))
    assert not copied
    assert {index: str(item.error) for index, item in items.items() if item.error} == {2: "no size", 4: "no image"}
    for index, says in ((2, "no size"), (4, "no image")):
        with pytest.raises(InputError, match=says):
            items[index]["counts"]
    assert items[0]["labels"].shape == items[0].size == source.size(0)
    assert items[0]["counts"].shape == (3, 3)
    assert len(copied) == 2
    batches = list(runner.batches(variables, start=1))
    assert [done for done, _ in batches] == [1, *range(2, runner.batch_count + 1)], "what has no size, and the rest"
    assert {item.index for _, rest in batches[1:] for item in rest} < set(items)


def test_images_of_the_size_of_their_canvas_need_no_extents(setting):
    """Their bucket is exact, so that the net computes no masks, and finds the same."""
    model, variables, source = setting[1:]
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    variables, found = sharding.put_replicated(mesh, variables), {}
    sizes = {source.size(index) for index in range(len(source))}
    for most in (len(sizes), 1):
        settings = EvalSettings(batch_size=2, max_buckets=most)
        runner = Runner(model, source, settings, READERS, Normalization(), mesh)
        assert {bucket.exact for bucket in runner.buckets} == {most > 1}
        found[most] = {item.index: item["labels"] for item in runner.run(variables)}
    same = [np.mean(found[len(sizes)][index] == found[1][index]) for index in found[1]]
    assert min(same) > 0.999
