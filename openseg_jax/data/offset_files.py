"""Files of offsets: NAME.npz is the form of this project, NAME.mat that of the original."""

import io
import math
import os
import threading
import zipfile
from pathlib import Path

import numpy as np
import scipy.io

from openseg_jax.data.containers import max_pixels
from openseg_jax.data.matlab import MatlabError, read_matlab
from openseg_jax.errors import InputError
from openseg_jax.files import read_bytes, replacing

OFFSET_SUFFIXES = (".npz", ".mat")
_BYTES_PER_PIXEL = 4  # of the largest image that is allowed: larger arrays are refused
# NumPy parses headers as Python code, which sometimes fails when two threads of Python 3.11 do it at once.
_HEADERS = threading.Lock()


def write_offsets(path: str | os.PathLike, offsets: np.ndarray) -> None:
    """Writes offsets, integers (H, W, 2), (down, right) in pixels from -128 to 127.

    NAME.npz holds "offsets", int8, compressed; NAME.mat holds "mat", int32, as the original writes and reads it.
    """
    path = Path(path)
    suffix = _suffix(path)
    offsets = _checked(np.asarray(offsets), f"offsets for {path}")
    with replacing(path) as temporary:
        if suffix == ".npz":
            np.savez_compressed(temporary, offsets=offsets)
        else:
            scipy.io.savemat(temporary, {"mat": offsets.astype(np.int32)}, do_compression=True)


def read_offsets(path: str | os.PathLike) -> np.ndarray:
    """Reads offsets from either form, int8 (H, W, 2), (down, right) in pixels; raises InputError if it holds none."""
    path = Path(path)
    suffix, encoded = _suffix(path), read_bytes(path)
    if suffix == ".mat":
        try:
            return _checked(read_matlab(encoded, ("mat",))["mat"], str(path))
        except MatlabError as error:
            raise InputError(f"{path} is not a readable file of offsets: it {error}") from error
    try:
        offsets = _from_zip(encoded)
    except KeyError as error:
        raise InputError(f"{path} holds no array 'offsets'") from error
    except Exception as error:  # NumPy reads headers as Python code, which can fail in any way
        raise InputError(f"{path} is not a readable file of offsets ({len(encoded)} bytes)") from error
    return _checked(offsets, str(path))


def _from_zip(encoded: bytes) -> np.ndarray:
    """Reads the array "offsets" of an .npz file; a file that would become too large raises ValueError."""
    with zipfile.ZipFile(io.BytesIO(encoded)) as archive:
        name = "offsets.npy"
        size = archive.getinfo(name).file_size
        if size > _BYTES_PER_PIXEL * max_pixels():
            raise ValueError("too large")
        with archive.open(name) as stream:
            content = stream.read(size)  # what is more is not even decompressed; the checksum is compared
    file = io.BytesIO(content)
    with _HEADERS:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("another version")
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
    stored = content[file.tell() :]
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(stored):
        raise ValueError("not as many numbers as it says")
    return np.frombuffer(stored, dtype).reshape(shape, order="F" if by_column else "C")


def check_size(offsets: np.ndarray, file: Path, size: tuple[int, int], where: str | Path) -> None:
    """Raises InputError unless the offsets of `file` are of the (height, width) of what errors call `where`."""
    if offsets.shape[:2] != size:
        raise InputError(f"{where} is of size {size}, its offsets {file} of {offsets.shape[:2]} (height, width)")


def find_offsets(folder: str | os.PathLike, name: str) -> Path:
    """Returns FOLDER/NAME.npz or FOLDER/NAME.mat, whichever exists; raises InputError if neither or both do."""
    paths = [Path(folder) / f"{name}{suffix}" for suffix in OFFSET_SUFFIXES]
    found = [path for path in paths if path.is_file()]
    if len(found) != 1:
        raise InputError(
            f"{folder} holds both {found[0].name} and {found[1].name}: keep one of them"
            if found
            else f"{folder} has no offsets for {name}, neither {paths[0].name} nor {paths[1].name}"
        )
    return found[0]


def _suffix(path: Path) -> str:
    if path.suffix not in OFFSET_SUFFIXES:
        raise InputError(f"offsets are in files {' or '.join(OFFSET_SUFFIXES)}, found {path}")
    return path.suffix


def _checked(offsets: np.ndarray, where: str) -> np.ndarray:
    """Returns offsets as int8."""
    if offsets.dtype.kind not in "iu" or offsets.ndim != 3 or offsets.shape[2] != 2 or not offsets.size:
        raise InputError(f"{where}: wanted integers of shape (height, width, 2), found {offsets.dtype} {offsets.shape}")
    low, high = offsets.min(), offsets.max()
    if low < -128 or high > 127:
        raise InputError(f"{where}: wanted steps of -128 to 127 pixels, found {low} to {high}")
    return offsets.astype(np.int8)
