"""MATLAB files: what SciPy writes is read as SciPy reads it, and what is none is refused."""

import contextlib
import io

import numpy as np
import pytest
import scipy.io

from openseg_jax.data.matlab import MatlabError, read_matlab

ARRAYS = (
    np.arange(-20, 20, dtype=np.int32).reshape(4, 5, 2),
    np.float64(7.5),
    np.array([[1.0, 2, 300]]),
    np.ones((2, 3), np.uint8),
    np.zeros((1, 1), np.int64),
    np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
)


def saved(compressed=True, **variables) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=compressed)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}-{array.shape}")
def test_numbers_beside_other_things(array, compressed):
    others = {"words": "abc", "cells": np.array([1, "a"], object), "fields": {"x": 1}, "z": np.array([1j])}
    content = saved(compressed, **others, mat=array)
    found, expected = read_matlab(content, ("mat",))["mat"], scipy.io.loadmat(io.BytesIO(content))["mat"]
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_the_other_order_of_bytes():
    content = bytearray(128)
    content[124:] = b"\x01\x00MI"
    for numbers in ((14, 56, 6, 8, 12, 0, 5, 8, 1, 1), (0x00010001, 0x61000000, 5, 4, 7, 0)):
        content += np.array(numbers, ">i4").tobytes()
    np.testing.assert_array_equal(read_matlab(bytes(content), ("a",))["a"], np.array([[7]], np.int32))


@pytest.mark.parametrize("name", ["words", "cells", "z", "missing"])
def test_what_is_no_array_of_numbers(name):
    content = saved(words="abc", cells=np.array([1, "a"], object), z=np.array([1j]))
    with pytest.raises(MatlabError, match=f"holds no array.*'{name}'"):
        read_matlab(content, (name,))


def test_more_than_is_allowed(monkeypatch):
    content = saved(mat=np.zeros((100, 100)))
    monkeypatch.setenv("OPENSEG_MAX_PIXELS", "1000")
    with pytest.raises(MatlabError, match="is far too large: a variable in it has 80048 bytes"):
        read_matlab(content, ("mat",))


def test_no_bit_of_a_compressed_variable_may_flip():
    content, array = bytearray(saved(mat=ARRAYS[0])), ARRAYS[0]
    for bit in range(8 * 128, 8 * len(content)):
        content[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(MatlabError):
            np.testing.assert_array_equal(read_matlab(bytes(content), ("mat",))["mat"], array)
        content[bit // 8] ^= 1 << bit % 8
