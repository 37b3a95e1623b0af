"""Refinement of label maps by offsets: each pixel near a boundary takes the label of an interior pixel.

Yuan, Xie, Chen and Wang, "SegFix: Model-Agnostic Boundary Refinement for Segmentation", ECCV 2020, arXiv:2007.04269.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import grain
import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax.data.buckets import make_buckets
from openseg_jax.errors import InputError

_THREADS = 4  # that load, and as many that save
_PIXELS = 1 << 20  # that the device gets at a time: small maps are refined together


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
    """Refines maps of any sizes with few programs, while threads load the next and save the last.

    sizes: (height, width) of each map. load: index -> (labels (H, W), offsets (H, W, 2)), called in order. save: called
    with (index, refined labels (H, W)). Both are called in threads. max_buckets: padded shapes, each of one program, or
    two where small maps are refined together. progress: wraps the batches.
    Memory does not grow with the number of maps. Whatever `load` or `save` raises ends it.
    """
    canvases = {}
    for bucket in make_buckets(sizes, max_buckets=max_buckets):
        canvases |= dict.fromkeys(bucket.indices, bucket.canvas)

    def padded(index: int) -> tuple[np.ndarray, np.ndarray]:
        """On the canvas."""
        size, canvas, (labels, offsets) = tuple(sizes[index]), canvases[index], load(index)
        for name, array, shape in (("labels", labels, size), ("offsets", offsets, (*size, 2))):
            if array.shape != shape:
                raise InputError(f"the {name} of map {index} are of shape {array.shape}, wanted {shape}")
        if size != canvas:
            beyond = [(0, canvas[0] - size[0]), (0, canvas[1] - size[1])]
            labels, offsets = np.pad(labels, beyond), np.pad(offsets, [*beyond, (0, 0)])
        return labels, offsets

    def batch(indices: tuple[int, ...]) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
        pairs = [padded(index) for index in indices]
        labels, offsets = (x[0][None] if len(x) == 1 else np.stack(x) for x in zip(*pairs, strict=True))
        return indices, labels, offsets

    def save_all(indices: tuple[int, ...], refined: np.ndarray) -> None:
        for index, labels in zip(indices, refined, strict=True):
            height, width = sizes[index]
            save(index, labels[:height, :width])

    if not len(sizes):
        return
    batches = list(_batches([canvases[index] for index in range(len(sizes))]))
    maps = grain.MapDataset.source(batches).map(batch)
    maps = iter(maps.to_iter_dataset(grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=2 * _THREADS)))
    options = {"scale": scale, "iterations": iterations, "void": void}
    saving, pending = deque(), None
    with ThreadPoolExecutor(_THREADS) as pool:
        for found in itertools.chain(progress(maps, len(batches)), [None]):
            # saved one batch late, so that the device always has the next one to do
            current = None
            if found:
                indices, *pair = found
                current = indices, refine(*pair, sizes=np.array([sizes[i] for i in indices], np.int32), **options)
            if pending:
                saving.append(pool.submit(save_all, pending[0], np.asarray(pending[1])))
            while len(saving) > (2 * _THREADS if found else 0):
                saving.popleft().result()
            pending = current


def _batches(canvases: Sequence[tuple[int, int]]) -> Iterator[tuple[int, ...]]:
    """Consecutive maps of one canvas, as many at a time as have `_PIXELS`; what is left of them one by one, so that a
    canvas has two programs at most."""
    for (height, width), group in itertools.groupby(range(len(canvases)), canvases.__getitem__):
        run, count = list(group), max(_PIXELS // (height * width), 1)
        whole = len(run) - len(run) % count
        yield from (tuple(run[first : first + count]) for first in range(0, whole, count))
        yield from ((index,) for index in run[whole:])
