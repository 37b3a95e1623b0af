"""Boundary scores against the original and against brute force; intervals and comparisons."""

import math

import numpy as np
import pytest
from PIL import Image

from openseg_jax.data import load_classes
from openseg_jax.errors import InputError
from openseg_jax.evaluation.others import legacy_scores, official_scores
from openseg_jax.metrics import statistics
from openseg_jax.metrics.boundaries import boundary_regions, f_scores
from openseg_jax.metrics.confusion import Confusion, confusion_matrix, scores
from tests.conftest import golden


class Item(dict):
    """The results of the first image."""

    index = 0


Z, META = golden("metrics.npz"), golden("metrics.json")


@pytest.mark.parametrize("tolerance", [0.00088, 3])
def test_boundary_f_score_equals_the_originals(tolerance):
    expected = META[f"F1 threshold {tolerance}"]
    pairs = zip(Z["f1_pred"], Z["f1_gt"], strict=True)
    found = np.array([f_scores(p, t, 4, tolerance=tolerance, ignore=-1) for p, t in pairs])
    found = np.nan_to_num(found, nan=1.0)  # the original's value of a class that an image lacks
    np.testing.assert_allclose(found.mean(0), expected["per_class"], rtol=1e-12)
    np.testing.assert_allclose(found.mean(0).mean(), expected["mean"], rtol=1e-12)
    empty = np.zeros((9, 9), int)
    assert np.isnan(f_scores(empty, empty, 2)).all()
    assert META["F1 both empty"] == [1, 1]


def test_classes_that_are_left_out_count_in_no_mean():
    matrix = np.array([[5, 1, 0], [2, 3, 1], [0, 4, 9]])
    found, whole = scores(matrix, [0]), scores(matrix)
    assert found["miou"] == pytest.approx(whole["iou"][1:].mean())
    assert found["mean_accuracy"] == pytest.approx(whole["accuracy"][1:].mean())
    assert found["pixel_accuracy"] == whole["pixel_accuracy"]
    np.testing.assert_array_equal(found["iou"], whole["iou"])
    kept = Confusion(3, 1, left_out=[0])
    kept.update(Item({"counts": matrix}))
    assert kept.result()["miou"] == found["miou"] == pytest.approx(statistics.mean_iou(kept.images.sum(0)))


def test_legacy_scores_equal_the_originals():
    """Of COCO-Stuff, whose last class its script forgets; of Cityscapes, where ignored pixels are counted."""
    coco = load_classes("coco_stuff_10k")
    truth, prediction = (Z[f"coco_{kind}"].astype(np.uint8) for kind in ("gt", "pred"))
    labels = np.stack([coco.encode(x, "golden") for x in truth])
    last = np.where(prediction == 0, coco.ids[-1], prediction).astype(np.uint8)  # what it writes as 0
    confusion = np.asarray(confusion_matrix(labels, np.stack([coco.encode(x, "golden") for x in last]), len(coco)))
    found = legacy_scores(confusion, None, truth.size, coco)
    assert found["miou"] == pytest.approx(META["cocostuff evaluator"]["mean_iou"], rel=1e-12)
    city = load_classes("cityscapes")
    truth, prediction = (Z[f"city_{kind}"].astype(np.uint8) for kind in ("gt", "pred"))
    encoded = [np.stack([city.encode(x, "golden") for x in maps]) for maps in (truth, prediction)]
    confusion = np.asarray(confusion_matrix(*encoded, 19))
    assert scores(confusion)["miou"] == pytest.approx(META["cityscapes evaluator"]["averageScoreClasses"], rel=1e-12)
    found = legacy_scores(confusion, np.array([[1.0, np.nan]]), truth.size, city)
    assert found["pixel_accuracy"] == pytest.approx(META["cityscapes printed pixel accuracy"], rel=1e-12)
    assert found["boundary_f_score"] == 1


def test_cityscapes_scores_equal_those_of_cityscapesscripts(tmp_path):
    """On random label maps, with ignored labels, one class that is only predicted and one that is nowhere."""
    city, rng = load_classes("cityscapes"), np.random.default_rng(0)
    confusion, paths = 0, []
    for number in range(3):
        truth = rng.choice([i for i in range(34) if i not in (13, 33)], (40, 60)).astype(np.uint8)
        wrong = rng.choice([i for i in city.ids if i != 33], truth.shape).astype(np.uint8)
        prediction = np.where((rng.random(truth.shape) < 0.5) & np.isin(truth, city.ids), truth, wrong)
        paths.append([tmp_path / f"{number}_{kind}.png" for kind in ("prediction", "truth")])
        for path, x in zip(paths[-1], (prediction, truth), strict=True):
            Image.fromarray(x).save(path)
        confusion += np.asarray(confusion_matrix(city.encode(truth, ""), city.encode(prediction, ""), 19))
    ours = scores(confusion)
    assert np.isnan(ours["iou"][-1])
    assert 0 in ours["iou"]
    assert official_scores(*zip(*paths, strict=True))["miou"] == pytest.approx(ours["miou"], rel=1e-15)
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(paths[0][0])
    with pytest.raises(InputError, match="cityscapesScripts: .* are not equal"):
        official_scores(*zip(*paths, strict=True))


def labels(seed, shape=(23, 31)):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 3, (-(-shape[0] // 6), -(-shape[1] // 6)))
    x = np.kron(coarse, np.ones((6, 6), int))[: shape[0], : shape[1]]
    x[rng.random(shape) < 0.05] = 255
    return x


def brute_force_f(prediction, truth, k, radius):
    """Pixel by pixel, from the definition."""

    def edge(x):
        mask = (x == k) & (truth != 255)
        h, w = mask.shape
        found = []
        for i in range(h):
            for j in range(w):
                near = (
                    [(i, j + 1)]
                    if i == h - 1
                    else [(i + 1, j)]
                    if j == w - 1
                    else [(i, j + 1), (i + 1, j), (i + 1, j + 1)]
                )
                if any(mask[i, j] != mask[a, b] for a, b in near if a < h and b < w):
                    found.append((i, j))
        return found

    a, b = edge(prediction), edge(truth)
    if not a or not b:
        return 0.0 if a or b else math.nan
    share = lambda x, y: sum(any(math.dist(p, q) <= radius for q in y) for p in x) / len(x)  # noqa: E731
    precision, recall = share(a, b), share(b, a)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def brute_force_rim(mask, distance):
    h, w = mask.shape
    outside = [
        (i, j) for i in range(-1, h + 1) for j in range(-1, w + 1) if not (0 <= i < h and 0 <= j < w and mask[i, j])
    ]
    near = lambda i, j: min(max(abs(i - a), abs(j - b)) for a, b in outside) <= distance  # noqa: E731
    return {(i, j) for i in range(h) for j in range(w) if mask[i, j] and near(i, j)}


@pytest.mark.parametrize("radius", [1, 3])
def test_boundary_scores_equal_brute_force(radius):
    prediction, truth = labels(0), labels(1)
    found = f_scores(prediction, truth, 3, tolerance=radius)
    np.testing.assert_allclose(found, [brute_force_f(prediction, truth, k, radius) for k in range(3)], rtol=1e-12)
    share = radius / math.hypot(*truth.shape)
    regions = boundary_regions(prediction, truth, 3, share=share)
    for k in range(3):
        a, b = (brute_force_rim((x == k) & (truth != 255), radius) for x in (prediction, truth))
        assert tuple(regions[k]) == (len(a & b), len(a | b))


def counts_of(seed, images=60, better=0.0):
    rng = np.random.default_rng(seed)
    labelled = rng.integers(50, 100, (images, 4))
    right = np.minimum((labelled * rng.uniform(0.5 + better, 0.9 + better, (images, 4))).astype(int), labelled)
    return np.stack([right, labelled, labelled + rng.integers(0, 5, labelled.shape)], axis=1)


def test_scores_of_images_add_up():
    counts = counts_of(0)
    right, labelled, predicted = counts.sum(0)
    np.testing.assert_allclose(statistics.ious(counts.sum(0)), right / (labelled + predicted - right))
    assert np.isnan(statistics.mean_iou(np.zeros((3, 4))))
    low, high = statistics.interval(counts)
    assert low < statistics.mean_iou(counts.sum(0)) < high
    wider = statistics.interval(counts[:10])
    assert wider[1] - wider[0] > high - low


def test_comparisons_tell_chance_from_difference():
    first = counts_of(0)
    same = statistics.compare(first, counts_of(0))
    assert (same.difference, same.chance) == (0, 1)
    noise = statistics.compare(first, counts_of(7))
    assert noise.chance > 0.05
    assert noise.interval[0] < 0 < noise.interval[1]
    real = statistics.compare(first, counts_of(5, better=0.1))
    assert real.chance < 0.01
    assert real.interval[0] > 0
    assert (real.classes > 0).all()
    assert real.images.shape == (60,)
