"""Scores against the original's RunningScore."""

import numpy as np
import pytest

from openseg_jax.metrics.confusion import confusion_matrix, scores
from tests.conftest import golden

Z, META = golden("metrics.npz"), golden("metrics.json")
NAMES = {"pixel_acc": "pixel_accuracy", "fwavacc": "frequency_weighted_iou", "mean_iou": "miou"}


@pytest.mark.parametrize(
    ("case", "prediction", "confusion"),
    [
        ("rs 255 ignore, uint8 gt", "rs_pred", "rs_confusion"),
        ("rs prediction outside range", "rs_pred_out_of_range", "rs_confusion_pred_out_of_range"),
    ],
)
def test_equals_goldens(case, prediction, confusion):
    matrix = confusion_matrix(Z["rs_gt_uint8_255ignored"], Z[prediction], 6)
    np.testing.assert_array_equal(matrix, Z[confusion])
    ours, expected = scores(matrix), META[case]
    for theirs, name in NAMES.items():
        np.testing.assert_allclose(ours[name], expected[theirs], rtol=1e-12)
    np.testing.assert_allclose(ours["iou"], expected["cls_iu"], rtol=1e-12)
    np.testing.assert_allclose(ours["accuracy"], expected["acc_cls"], rtol=1e-12)
    np.testing.assert_allclose(ours["mean_accuracy"], np.nanmean(expected["acc_cls"]), rtol=1e-12)


def test_nothing_to_score():
    assert np.isnan(scores(np.zeros((3, 3)))["miou"])


def test_counts_are_exact():
    labels = np.zeros(3_000_000, np.uint8)
    assert confusion_matrix(labels, labels, 2)[0, 0] == 3_000_000  # a float32 sum of ones stays exact only to 2^24
