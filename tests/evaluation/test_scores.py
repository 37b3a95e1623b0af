"""Boundary scores against the original and against brute force; intervals and comparisons."""

import math

import numpy as np
import pytest

from openseg_jax.evaluation import statistics
from openseg_jax.evaluation.boundary_scores import boundary_regions, f_scores
from tests.conftest import golden

Z, META = golden("metrics.npz"), golden("metrics.json")


@pytest.mark.parametrize("tolerance", [0.00088, 3])
def test_boundary_f_score_equals_the_originals(tolerance):
    expected = META[f"F1 threshold {tolerance}"]
    pairs = zip(Z["f1_pred"], Z["f1_gt"], strict=True)
    found = np.array([f_scores(p, t, 4, tolerance=tolerance, ignore=-1) for p, t in pairs])
    np.testing.assert_allclose(found.mean(0), expected["per_class"], rtol=1e-12)
    np.testing.assert_allclose(found.mean(0).mean(), expected["mean"], rtol=1e-12)
    empty = np.zeros((9, 9), int)
    np.testing.assert_array_equal(f_scores(empty, empty, 2), META["F1 both empty"])


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
        return float(not a and not b)
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
