"""Refinement of many label maps with few programs."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import grain
import numpy as np

from openseg_jax.errors import InputError
from openseg_jax.inference.buckets import make_buckets
from openseg_jax.labels.refinement import refine

_THREADS = 4  # that load, and as many that save
_PIXELS = 1 << 20  # that the device gets at a time: small maps are refined together


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
