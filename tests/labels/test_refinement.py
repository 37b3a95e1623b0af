"""Refinement of label maps: the original's results, and properties."""

import jax
import numpy as np
import pytest

from openseg_jax.data import load_classes
from openseg_jax.errors import InputError
from openseg_jax.labels.refinement import refine
from tests.conftest import golden

SIZES = [(48, 64), (1, 1), (33, 70), (48, 64), (5, 90), (64, 20), (1, 7)]


def draw(rng, size, reach=4, ids=(0, 7, 26, 255), dtype=np.uint8):
    """A label map and offsets, of which half are 0."""
    labels = rng.choice(ids, size).astype(dtype)
    offsets = rng.integers(-reach, reach + 1, (*size, 2)) * (rng.random((*size, 1)) < 0.5)
    return labels, offsets.astype(np.int8)


def plain(labels, offsets, scale):
    """The rule, pixel by pixel."""
    height, width = labels.shape
    result = np.empty_like(labels)
    for y, x in np.ndindex(height, width):
        down, right = scale * offsets[y, x].astype(int)
        result[y, x] = labels[min(max(y + down, 0), height - 1), min(max(x + right, 0), width - 1)]
    return result


@pytest.mark.parametrize(("name", "scale", "moves"), [("scale2", 2, 1), ("scale1", 1, 1), ("zero_offset", 2, 0)])
def test_as_the_original_on_cityscapes(name, scale, moves):
    """The original takes ids that are no classes for void before it refines; here, reading a mask does."""
    content, classes = golden("segfix_refined.npz"), load_classes("cityscapes")
    train_ids = classes.encode(content["ref_in_label"], "golden")
    refined = refine(train_ids, moves * content["ref_in_offset"], scale=scale)
    np.testing.assert_array_equal(classes.decode(np.asarray(refined)), content[f"refine_city_{name}"])


def test_as_the_original_on_ade():
    content = golden("segfix_refined.npz")
    refined = refine(content["ref_in_ade_label"], content["ref_in_offset"], scale=2)
    np.testing.assert_array_equal(refined, content["refine_ade_scale2"])


@pytest.mark.parametrize("scale", [1, 2])
def test_as_the_original_on_instance_masks(scale):
    content = golden("segfix_refined.npz")
    masks = content["inst_ref_in"] > 0
    refined = refine(masks, np.stack([content["ref_in_offset"]] * 2), scale=scale)
    assert refined.dtype == bool
    np.testing.assert_array_equal(np.asarray(refined) * np.uint8(255), content[f"refine_inst_scale{scale}"])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32])
@pytest.mark.parametrize("scale", [1, 3])
def test_moves_ids_of_any_type_and_invents_none(dtype, scale):
    ids = np.linspace(0, np.iinfo(dtype).max, 9).astype(dtype)
    labels, offsets = draw(np.random.default_rng(scale), (21, 34), ids=ids, dtype=dtype)
    refined = np.asarray(refine(labels, offsets, scale=scale))
    assert refined.dtype == dtype
    np.testing.assert_array_equal(refined, plain(labels, offsets, scale))
    assert set(refined.flat) <= set(labels.flat)
    interior = (offsets == 0).all(-1)
    np.testing.assert_array_equal(refined[interior], labels[interior])
    np.testing.assert_array_equal(refine(labels, 0 * offsets, scale=scale), labels)


def test_iterations_refine_the_result():
    labels, offsets = draw(np.random.default_rng(0), (21, 34))
    twice = refine(refine(labels, offsets), offsets)
    np.testing.assert_array_equal(refine(labels, offsets, iterations=2), twice)
    assert (twice != refine(labels, offsets)).any()


def test_void_keeps_its_place():
    labels, offsets = draw(np.random.default_rng(0), (40, 50))
    refined = np.asarray(refine(labels, offsets, void=255))
    np.testing.assert_array_equal(refined == 255, labels == 255)
    moved = np.asarray(refine(labels, offsets))
    free = (labels != 255) & (moved != 255)
    np.testing.assert_array_equal(refined[free], moved[free])
    assert ((moved == 255) != (labels == 255)).any(), "moves like any label if not told"


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_looks_no_further_than_the_border(size):
    labels = np.arange(np.prod(size), dtype=np.int32).reshape(size)
    for step in (-100, 100):
        refined = refine(labels, np.full((*size, 2), step, np.int8), scale=5)
        np.testing.assert_array_equal(refined, np.full(size, labels.flat[0 if step < 0 else -1]))


def test_one_class_stays_one_class():
    _, offsets = draw(np.random.default_rng(0), (30, 30))
    np.testing.assert_array_equal(refine(np.full((30, 30), 7, np.uint8), offsets), np.full((30, 30), 7))


def test_inside_a_program_on_a_padded_batch():
    rng = np.random.default_rng(1)
    pairs = [draw(rng, size) for size in SIZES]
    canvas = np.max(SIZES, axis=0)
    labels = np.full((len(SIZES), *canvas), 99, np.uint8)
    offsets = np.zeros((*labels.shape, 2), np.int8)
    for row, (own, steps) in enumerate(pairs):
        labels[row, : own.shape[0], : own.shape[1]], offsets[row, : own.shape[0], : own.shape[1]] = own, steps
    refined = jax.jit(lambda *x: refine(x[0], x[1], sizes=x[2]))(labels, offsets, np.array(SIZES))
    for row, (own, steps) in enumerate(pairs):
        np.testing.assert_array_equal(refined[row, : own.shape[0], : own.shape[1]], refine(own, steps))


LABELS, OFFSETS = np.zeros((4, 5), np.uint8), np.zeros((4, 5, 2), np.int8)


@pytest.mark.parametrize(
    ("labels", "offsets", "options", "message"),
    [
        (LABELS, OFFSETS, {"scale": 1.5}, "scale is 1.5, wanted a whole number of at least 1: between two pixels"),
        (LABELS, OFFSETS, {"scale": 0}, "scale is 0"),
        (LABELS, OFFSETS, {"iterations": 0}, "iterations is 0, wanted a whole number of at least 1$"),
        (LABELS.astype(float), OFFSETS, {}, "labels are of type float64"),
        (LABELS.astype(np.int64), OFFSETS, {}, "labels are of type int64, wanted integers of at most 32 bits"),
        (LABELS[0], OFFSETS, {}, r"labels are of shape \(5,\)"),
        (LABELS, OFFSETS.astype(float), {}, "offsets are of type float64"),
        (LABELS, OFFSETS[:3], {}, r"offsets are of shape \(3, 5, 2\), wanted \(4, 5, 2\)"),
        (LABELS, OFFSETS, {"sizes": np.ones((2, 2), int)}, r"sizes are of shape \(2, 2\), wanted \(1, 2\)"),
    ],
)
def test_wrong_input(labels, offsets, options, message):
    with pytest.raises(InputError, match=message):
        refine(labels, offsets, **options)
