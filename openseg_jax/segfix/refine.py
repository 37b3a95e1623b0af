"""Refinement of label maps by offsets: each pixel near a boundary takes the label of an interior pixel.

Yuan, Xie, Chen and Wang, "SegFix: Model-Agnostic Boundary Refinement for Segmentation", ECCV 2020, arXiv:2007.04269.
"""

from __future__ import annotations

import io
import itertools
import os
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
import scipy.io

from openseg_jax.data.buckets import make_buckets
from openseg_jax.errors import InputError

OFFSET_SUFFIXES = (".npz", ".mat")
_THREADS = 4  # that load, and as many that save
# What numpy and scipy raise on files that hold no offsets.
_UNREADABLE = (OSError, ValueError, TypeError, IndexError, NotImplementedError, EOFError, zlib.error,
               zipfile.BadZipFile, scipy.io.matlab.MatReadError)  # fmt: skip


def refine(
    labels: jax.Array | np.ndarray,
    offsets: jax.Array | np.ndarray,
    *,
    scale: int = 2,
    iterations: int = 1,
    void: int | None = None,
    sizes: jax.Array | np.ndarray | None = None,
) -> jax.Array:
    """Labels with each pixel (y, x) replaced by the one at (y, x) + scale * offset, or at the border before it.

    labels: integers of at most 32 bits or booleans, (H, W) or (N, H, W); they are moved, never computed with, so they
    may be train ids, ids on disk, instance ids or masks. offsets: integers (H, W, 2) or (N, H, W, 2), (down, right) in
    pixels. scale: how many times as far to look; the original takes 2 for label maps and 1 for instance masks.
    iterations: how often, each time from the result before. void: these pixels stay void, and no other becomes void;
    without it, as in the original, 255 moves like any label. sizes: int (N, 2), the (height, width) of each map of a
    padded batch, which has its border there; what lies beyond is to be cut off.
    Raises InputError on other shapes and types, and on a scale that is no whole number, between whose pixels the
    original mixes ids into those of unrelated classes.
    """
    _check(labels, offsets)
    _check_whole("scale", scale)
    _check_whole("iterations", iterations)
    single = labels.ndim == 2
    if single:
        labels, offsets = labels[None], offsets[None]
    if sizes is None:
        sizes = np.full((len(labels), 2), labels.shape[1:], np.int32)
    elif np.shape(sizes) != (len(labels), 2):
        raise InputError(
            f"sizes are of shape {np.shape(sizes)}, wanted {(len(labels), 2)}: height and width of each map"
        )
    for _ in range(int(iterations)):
        labels = _gather(labels, offsets, sizes, int(scale), void)
    return labels[0] if single else labels


@jax.jit
def _gather(labels, offsets, sizes, scale, void):
    n, height, width = labels.shape
    last = sizes[:, :, None, None] - 1
    # Parts of the offsets are taken before they are converted, or else the whole conversion is written to memory.
    down, right = (scale * offsets[..., axis].astype(jnp.int32) for axis in (0, 1))
    y = jnp.clip(jnp.arange(height)[:, None] + down, 0, last[:, 0])
    x = jnp.clip(jnp.arange(width) + right, 0, last[:, 1])
    moved = labels.at[jnp.arange(n)[:, None, None], y, x].get(mode="clip")  # faster than by default
    return moved if void is None else jnp.where((labels == void) | (moved == void), labels, moved)


def _check(labels, offsets) -> None:
    kind = np.dtype(labels.dtype)
    if kind.kind not in "iub" or kind.itemsize > 4:
        raise InputError(f"labels are of type {kind}, wanted integers of at most 32 bits, or booleans")
    if labels.ndim not in (2, 3):
        raise InputError(f"labels are of shape {labels.shape}, wanted (height, width) or (maps, height, width)")
    if np.dtype(offsets.dtype).kind not in "iu":
        raise InputError(f"offsets are of type {offsets.dtype}, wanted integers: steps in whole pixels")
    if offsets.shape != (*labels.shape, 2):
        raise InputError(f"offsets are of shape {offsets.shape}, wanted {(*labels.shape, 2)}, as the labels are")


def _check_whole(name: str, value: float) -> None:
    if not float(value).is_integer() or value < 1:
        why = ": between two pixels, the ids of classes would be mixed into those of others" if name == "scale" else ""
        raise InputError(f"{name} is {value}, wanted a whole number of at least 1{why}")


# ---------------------------------------------------------------------------------------------------------------------
# Many maps


def refine_all(
    sizes: Sequence[tuple[int, int]],
    load: Callable[[int], tuple[np.ndarray, np.ndarray]],
    save: Callable[[int, np.ndarray], None],
    *,
    scale: int = 2,
    iterations: int = 1,
    void: int | None = None,
    max_buckets: int = 4,
    progress: Callable[[Iterable, int], Iterable] = lambda maps, count: maps,
) -> None:
    """Refines maps of any sizes with at most `max_buckets` programs, while threads load the next and save the last.

    sizes: (height, width) of each map. load: index -> (labels (H, W), offsets (H, W, 2)), called in order. save: called
    with (index, refined labels (H, W)). Both are called in threads. progress: wraps the maps.
    Memory does not grow with the number of maps. Whatever `load` or `save` raises ends it.
    """
    canvases = {}
    for bucket in make_buckets(sizes, max_buckets=max_buckets):
        canvases |= dict.fromkeys(bucket.indices, bucket.canvas)

    def padded(index: int) -> tuple[np.ndarray, np.ndarray]:
        """On the canvas. Maps go alone: batches are no faster, even of small ones."""
        size, canvas, (labels, offsets) = tuple(sizes[index]), canvases[index], load(index)
        for name, array, shape in (("labels", labels, size), ("offsets", offsets, (*size, 2))):
            if array.shape != shape:
                raise InputError(f"the {name} of map {index} are of shape {array.shape}, wanted {shape}")
        if size != canvas:
            beyond = [(0, canvas[0] - size[0]), (0, canvas[1] - size[1])]
            labels, offsets = np.pad(labels, beyond), np.pad(offsets, [*beyond, (0, 0)])
        return labels[None], offsets[None]

    if not len(sizes):
        return
    maps = grain.MapDataset.source(range(len(sizes))).map(padded)
    maps = iter(maps.to_iter_dataset(grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=2 * _THREADS)))
    options = {"scale": scale, "iterations": iterations, "void": void}
    saving, pending = deque(), None
    with ThreadPoolExecutor(_THREADS) as pool:
        for index, pair in enumerate(itertools.chain(progress(maps, len(sizes)), [None])):
            # saved one map late, so that the device always has the next one to do
            current = pair and refine(*pair, sizes=np.array(sizes[index : index + 1], np.int32), **options)
            if index:
                height, width = sizes[index - 1]
                saving.append(pool.submit(save, index - 1, np.asarray(pending)[0, :height, :width]))
            while len(saving) > (2 * _THREADS if pair else 0):
                saving.popleft().result()
            pending = current


# ---------------------------------------------------------------------------------------------------------------------
# Files of offsets


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
            with np.load(io.BytesIO(encoded), allow_pickle=False) as content:
                offsets = content[key]
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
