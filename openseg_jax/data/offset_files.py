"""Files of offsets: NAME.npz of this project, NAME.mat of the original."""

from __future__ import annotations

import io
import os
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np
import scipy.io

from openseg_jax.errors import InputError

OFFSET_SUFFIXES = (".npz", ".mat")
# numpy parses headers as Python, which fails now and then in two threads of Python 3.11 at once.
_HEADERS = threading.Lock()
# What numpy and scipy raise on files that hold no offsets.
_UNREADABLE = (OSError, ValueError, TypeError, IndexError, NotImplementedError, EOFError, zlib.error,
               zipfile.BadZipFile, scipy.io.matlab.MatReadError)  # fmt: skip


def write_offsets(path: str | os.PathLike, offsets: np.ndarray) -> None:
    """offsets: integers (H, W, 2), -128 to 127 pixels (down, right).

    NAME.npz: "offsets", int8, compressed. NAME.mat: "mat", int32, as the original writes and reads it.
    """
    path = Path(path)
    suffix = _suffix(path)
    offsets = _checked(np.asarray(offsets), f"offsets for {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        if suffix == ".npz":
            np.savez_compressed(file, offsets=offsets)
        else:
            scipy.io.savemat(file, {"mat": offsets.astype(np.int32)}, do_compression=True)
    os.replace(temporary, path)


def read_offsets(path: str | os.PathLike) -> np.ndarray:
    """int8 (H, W, 2), (down, right) in pixels."""
    path = Path(path)
    key = "offsets" if _suffix(path) == ".npz" else "mat"
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    try:
        if key == "mat":
            offsets = scipy.io.loadmat(io.BytesIO(encoded), variable_names=(key,))[key]
        else:
            with zipfile.ZipFile(io.BytesIO(encoded)) as archive:
                content = io.BytesIO(archive.read(f"{key}.npy"))
            with _HEADERS:
                offsets = np.lib.format.read_array(content, allow_pickle=False)
    except KeyError as error:
        raise InputError(f"{path} holds no array {key!r}") from error
    except _UNREADABLE as error:
        raise InputError(f"{path} is no readable file of offsets, or a damaged one ({len(encoded)} bytes)") from error
    return _checked(offsets, str(path))


def check_size(offsets: np.ndarray, file: Path, size: tuple[int, int], where: str | Path) -> None:
    """Refuses the offsets of `file` for what is of another (height, width), and is called `where`."""
    if offsets.shape[:2] != size:
        raise InputError(f"{where} is of size {size}, its offsets {file} of {offsets.shape[:2]} (height, width)")


def find_offsets(folder: str | os.PathLike, name: str) -> Path:
    """FOLDER/NAME.npz or FOLDER/NAME.mat, whichever is there."""
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
    """As int8."""
    if offsets.dtype.kind not in "iu" or offsets.ndim != 3 or offsets.shape[2] != 2 or not offsets.size:
        raise InputError(f"{where}: wanted integers of shape (height, width, 2), found {offsets.dtype} {offsets.shape}")
    low, high = offsets.min(), offsets.max()
    if low < -128 or high > 127:
        raise InputError(f"{where}: wanted steps of -128 to 127 pixels, found {low} to {high}")
    return offsets.astype(np.int8)
