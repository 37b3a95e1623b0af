"""Files of offsets: this project's and the original's, and what is none."""

import io
import pickle
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import scipy.io

from openseg_jax.data.offset_files import find_offsets, read_offsets, write_offsets
from openseg_jax.errors import InputError
from tests.conftest import golden

OFFSETS = np.zeros((4, 5, 2), np.int8)


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
@pytest.mark.parametrize("size", [(48, 64), (1, 1), (1, 5), (5, 1)])
def test_offsets_in_files(tmp_path, suffix, size):
    offsets = np.random.default_rng(0).integers(-127, 128, (*size, 2)).astype(np.int8)
    path = tmp_path / "val" / f"a.b{suffix}"
    write_offsets(path, offsets.astype(np.int64))
    found = read_offsets(path)
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, offsets)
    assert find_offsets(path.parent, "a.b") == path
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_originals_files(tmp_path):
    """It writes and reads int32 (H, W, 2) under the key "mat"."""
    offsets = golden("offset_tester.npz")["ss__mat_0"]
    scipy.io.savemat(tmp_path / "theirs.mat", {"mat": offsets})
    np.testing.assert_array_equal(read_offsets(tmp_path / "theirs.mat"), offsets)
    write_offsets(tmp_path / "ours.mat", offsets.astype(np.int8))
    content = scipy.io.loadmat(tmp_path / "ours.mat")["mat"]
    assert content.dtype == np.int32
    np.testing.assert_array_equal(content, offsets)


def saved(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def array(x):
    buffer = io.BytesIO()
    np.save(buffer, x)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*a.npz: No such file"),
        (b"", "not a readable file of offsets"),
        (b"PK\x03\x04 nothing", "not a readable file of offsets"),
        (saved(offsets=OFFSETS)[:-30], "not a readable file of offsets"),
        (array(OFFSETS), "not a readable file of offsets"),
        (pickle.dumps(OFFSETS), "not a readable file of offsets"),
        (saved(offsets=np.array([[{}]], object)), "not a readable file of offsets"),
        (saved(flow=OFFSETS), "holds no array 'offsets'"),
        (saved(offsets=OFFSETS.astype(float)), r"wanted integers of shape \(height, width, 2\), found float64"),
        (saved(offsets=OFFSETS[..., 0]), r"found int8 \(4, 5\)"),
        (saved(offsets=OFFSETS[:0]), r"found int8 \(0, 5, 2\)"),
        (saved(offsets=OFFSETS.astype(int) + 128), "wanted steps of -128 to 127 pixels, found 128 to 128"),
    ],
)
def test_wrong_files_of_offsets(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_offsets(tmp_path / "a.npz")


def test_bombs(tmp_path, monkeypatch):
    """One says that it is large, the other conceals it."""
    monkeypatch.setenv("OPENSEG_MAX_PIXELS", "1000000")
    name = b"offsets.npy"
    for claimed in (10**8, 168):
        packed = zlib.compressobj(9, wbits=-15)
        packed = packed.compress(bytes(10**8)) + packed.flush()
        bomb = bytearray()
        sizes = struct.pack("<III", zlib.crc32(bytes(claimed)), len(packed), claimed)
        bomb += b"PK\3\4" + struct.pack("<HHHHH", 20, 0, 8, 0, 33) + sizes + struct.pack("<HH", len(name), 0) + name
        start = len(bomb) + len(packed)
        bomb += packed + b"PK\1\2" + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 33) + sizes
        bomb += struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0) + name
        bomb += b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(bomb) - start, start, 0)
        (tmp_path / "a.npz").write_bytes(bomb)
        tracemalloc.start()
        with pytest.raises(InputError, match="not a readable file of offsets"):
            read_offsets(tmp_path / "a.npz")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10**7


def test_wrong_matlab_files(tmp_path):
    scipy.io.savemat(tmp_path / "flow.mat", {"flow": OFFSETS})
    with pytest.raises(InputError, match="holds no array 'mat'"):
        read_offsets(tmp_path / "flow.mat")
    (tmp_path / "broken.mat").write_bytes((tmp_path / "flow.mat").read_bytes()[:100])
    with pytest.raises(InputError, match="not a readable file of offsets"):
        read_offsets(tmp_path / "broken.mat")


def test_wrong_names_of_offsets(tmp_path):
    with pytest.raises(InputError, match=r"offsets are in files .npz or .mat, found"):
        write_offsets(tmp_path / "a.png", OFFSETS)
    with pytest.raises(InputError, match="no offsets for a, neither a.npz nor a.mat"):
        find_offsets(tmp_path, "a")
    write_offsets(tmp_path / "a.npz", OFFSETS)
    write_offsets(tmp_path / "a.mat", OFFSETS)
    with pytest.raises(InputError, match="holds both a.npz and a.mat"):
        find_offsets(tmp_path, "a")
    with pytest.raises(InputError, match="-128 to 127 pixels, found -400 to -400"):
        write_offsets(tmp_path / "b.npz", OFFSETS.astype(int) - 400)
    assert not (tmp_path / "b.npz").exists()
