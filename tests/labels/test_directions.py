"""Directions as classes and offsets, and the labels made of them, against the original."""

import jax.numpy as jnp
import numpy as np
import pytest

from openseg_jax.errors import InputError
from openseg_jax.labels import directions as D
from tests.conftest import golden
from tests.labels import reference

Z = golden("segfix_maps.npz")
META = golden("segfix_maps.json")
ANGLES = Z["angles"]
DISTANCE = Z["angle_distance"][0]
VOID = Z["angle_seg_label"][0] == -1
SETTINGS = {4: {"shifted": True}, 8: {}, 16: {}, 32: {}}  # as the original by default


@pytest.fixture(params=["numpy", "jax"])
def array(request):
    """Every function takes and returns arrays of either library."""
    return np.asarray if request.param == "numpy" else jnp.asarray


@pytest.mark.parametrize("n", SETTINGS)
def test_tables(n):
    np.testing.assert_array_equal(D.offset_table(n, **SETTINGS[n]), Z[f"table_{n}"])


def test_four_directions_along_the_axes():
    recorded = META["env dt_num_classes=4 c4_align_axis"]
    np.testing.assert_array_equal(D.offset_table(4), recorded["table"])
    np.testing.assert_array_equal(D.quantize(np.linspace(-180, 180, 17), 4), recorded["idx"][0])


@pytest.mark.parametrize("n", SETTINGS)
def test_a_class_points_where_its_sector_does(n):
    """Of more than eight, to a pixel of a square ring, which is as near as a pixel comes."""
    for shifted in (False, True) if n == 4 else (False,):
        table = D.offset_table(n, shifted=shifted)
        assert len(np.unique(table, axis=0)) == n
        assert np.all(abs(table).max(1) == max(n // 8, 1))
        turn = reference.angle_of(table.astype(float)) - reference.centre(np.arange(n), n, shifted=shifted)
        assert np.all(abs((turn + 180) % 360 - 180) < 360 / n / 2)


@pytest.mark.parametrize("n", SETTINGS)
def test_angles(n, array):
    setting, angles = SETTINGS[n], array(ANGLES)
    index = D.quantize(angles, n, **setting)
    centre = reference.centre(index, n, **setting)
    assert isinstance(centre, type(angles))
    for kind in ("np", "torch"):
        np.testing.assert_array_equal(index, Z[f"align_{kind}_{n}__index"][0])
        np.testing.assert_array_equal(centre, Z[f"align_{kind}_{n}__angle"][0])
    np.testing.assert_array_equal(
        D.offsets(array(np.arange(n + 1)), n, **setting), Z[f"label_to_vector_{n}"][0, :, 0].T
    )
    found = reference.offsets_to_interior(angles, array(DISTANCE), n, **setting)
    np.testing.assert_array_equal(found, Z[f"angle_to_offset_{n}"][0])
    found = reference.direction_labels(angles, array(DISTANCE), array(VOID), n, **setting)
    np.testing.assert_array_equal(found, Z[f"dirlabel_{n}"][0])


def test_what_is_no_class_has_no_offset(array):
    np.testing.assert_array_equal(D.offsets(array(np.array([-1, 8, 255, 3])), 8), [[0, 0], [0, 0], [0, 0], [-1, 1]])


def test_other_numbers_of_directions_are_refused():
    with pytest.raises(InputError, match="there are 4, 8, 16 or 32 directions, found 6"):
        D.offset_table(6)


def test_vectors_as_classes(array):
    """A vector has an angle with a rounding error, by which it may be on either side of a border between sectors."""
    found = D.quantize(reference.angle_of(array(Z["angle_to_vector_none"][0])), 8)
    border = (ANGLES + 180) % 45 == 22.5
    assert border.sum() == 8
    np.testing.assert_array_equal(np.asarray(found)[~border], Z["vector_to_label_8"][0][~border])


def test_distances_as_labels(array):
    distance, void = array(DISTANCE), array(VOID)
    np.testing.assert_array_equal(D.boundary_labels(distance, void), Z["mask_label_np"][0])
    none = array(np.zeros(9, bool))
    labels = D.boundary_labels(array(np.arange(9)), none, min_distance=3, max_distance=6)
    np.testing.assert_array_equal(labels, [0, 0, 0, 1, 1, 1, 1, 0, 0])


@pytest.mark.parametrize("size", [3, 5, 11])
def test_gradient_kernels(size):
    np.testing.assert_array_equal(D.gradient_kernels(size), Z[f"sobel_kernel_{size}"][:, 0])
