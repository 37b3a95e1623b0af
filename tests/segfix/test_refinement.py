"""Refinement of many maps: as one by one, with few programs, flat memory, and an end at the first failure."""

import functools
import threading
import time

import numpy as np
import pytest

from openseg_jax.data.workers import in_threads
from openseg_jax.errors import InputError
from openseg_jax.labels import refinement as one_by_one
from openseg_jax.labels.refinement import refine
from openseg_jax.segfix import refinement
from openseg_jax.segfix.refinement import Loaded, refine_all
from tests.labels.test_refinement import LABELS, OFFSETS, SIZES, draw


def stream(sizes, load, **options):
    """Refines the maps load(0), load(1), ..., pairs of labels and offsets."""
    jobs = ((index, functools.partial(lambda index: Loaded(*load(index)), index)) for index in range(len(sizes)))
    return refine_all(dict(enumerate(sizes)), jobs, **options)


def test_many_maps_as_one_by_one_with_few_programs():
    rng = np.random.default_rng(2)
    sizes = SIZES * 3
    pairs = [draw(rng, size) for size in sizes]
    threads = set()

    def load(index):
        threads.add(threading.current_thread())
        return pairs[index]

    one_by_one._gather.clear_cache()
    found = list(stream(sizes, load, scale=2, void=255, max_buckets=2))
    assert one_by_one._gather._cache_size() == 2
    assert [refined.key for refined in found] == list(range(len(sizes)))
    assert threading.main_thread() not in threads
    for (labels, offsets), refined in zip(pairs, found, strict=True):
        np.testing.assert_array_equal(refined.labels, refine(labels, offsets, void=255))
        assert refined.changed == (refined.labels != labels).sum()


def test_small_maps_are_refined_together(monkeypatch):
    """Three at a time, and the seventh alone: two programs."""
    monkeypatch.setattr(refinement, "_PIXELS", 3 * 48 * 64)
    rng = np.random.default_rng(3)
    pairs = [draw(rng, (48, 64)) for _ in range(7)]
    one_by_one._gather.clear_cache()
    found = list(stream([(48, 64)] * 7, pairs.__getitem__, scale=1))
    assert one_by_one._gather._cache_size() == 2
    for (labels, offsets), refined in zip(pairs, found, strict=True):
        np.testing.assert_array_equal(refined.labels, refine(labels, offsets, scale=1))


def test_memory_does_not_grow_with_the_maps():
    """Where saving is slow, loading waits for it."""
    lock, state = threading.Lock(), {"held": 0, "most": 0}

    def load(index):
        with lock:
            state["held"] += 1
            state["most"] = max(state["most"], state["held"])
        return np.zeros((1024, 1024), np.uint8), np.zeros((1024, 1024, 2), np.int8)

    def save(refined):
        time.sleep(0.01)
        with lock:
            state["held"] -= 1

    assert len(list(in_threads(save, stream([(1024, 1024)] * 60, load)))) == 60
    assert state["held"] == 0
    assert state["most"] <= 2 * 4 + 2 * 4 + 4 + 3, "waiting to be saved, loaded ahead, being loaded, on the device"


def test_no_maps_at_all():
    assert list(stream([], None)) == []


def test_failures_end_it():
    sizes = [(4, 5)] * 9

    def missing(index):
        raise InputError(f"map {index} is missing")

    def full(refined):
        raise OSError("disk full")

    with pytest.raises(InputError, match="map . is missing"):
        list(stream(sizes, missing))
    with pytest.raises(OSError, match="disk full"):
        list(in_threads(full, stream(sizes, lambda index: (LABELS, OFFSETS))))
    with pytest.raises(InputError, match=r"the labels of map 1 are of shape \(4, 5\), wanted \(4, 6\)"):
        list(stream([(4, 5), (4, 6)], lambda index: (LABELS, OFFSETS)))
    with pytest.raises(InputError, match=r"the offsets of map 0 are of shape \(4, 4, 2\), wanted \(4, 5, 2\)"):
        list(stream(sizes, lambda index: (LABELS, OFFSETS[:, 1:])))


def test_maps_of_any_type_together():
    """Maps of one size go to the device together, and come back in their own types."""
    rng = np.random.default_rng(5)
    kinds = (bool, np.uint8, np.uint16, np.int32)
    pairs = [draw(rng, (8, 9), ids=(0, 1), dtype=kinds[index % 4]) for index in range(8)]
    for (labels, offsets), refined in zip(pairs, stream([(8, 9)] * 8, pairs.__getitem__), strict=True):
        assert refined.labels.dtype == labels.dtype
        np.testing.assert_array_equal(refined.labels, refine(labels, offsets))
