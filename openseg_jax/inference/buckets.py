"""Buckets: a few padded shapes for images of all sizes, so that a few compiled programs serve them."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

_LEVELS = 32  # heights and widths that a canvas may have
Size = tuple[int, int]
Resize = Callable[[int, int], Size]


def same(height: int, width: int) -> Size:
    """Changes no size."""
    return height, width


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Images that share one padded shape, and so one compiled program.

    indices: into the source, by width. canvas: (height, width) of the network's input; label_canvas: of the output.
    exact: whether no image is smaller than the canvas, so that the network needs no extents.
    """

    indices: tuple[int, ...]
    canvas: Size
    label_canvas: Size
    exact: bool = False


def make_buckets(
    sizes: Sequence[Size | None], *, max_buckets: int, input_size: Resize = same, multiple: int = 1
) -> list[Bucket]:
    """Groups images of all sizes into at most `max_buckets` padded shapes, with little padding of the network's input.

    sizes: (height, width) of each image; those without, None, are in no bucket. input_size: the size at which the
    network sees an image. multiple: of which the height of a canvas must be.
    """
    indices = [index for index, size in enumerate(sizes) if size is not None]
    if not indices:
        return []
    seen = np.array([input_size(*sizes[index]) for index in indices])
    shapes, inverse, counts = np.unique(seen, axis=0, return_inverse=True, return_counts=True)
    groups = np.arange(len(shapes)) if len(shapes) <= max_buckets else _covering(shapes, counts, max_buckets)
    group = groups[inverse.reshape(-1)]
    return [
        _bucket([indices[row] for row in np.flatnonzero(group == own)], sizes, seen[group == own], multiple)
        for own in np.unique(group)
    ]


def exact_buckets(sizes: Sequence[Size | None], input_size: Resize) -> list[Bucket]:
    """One for each size, without padding."""
    members: dict[Size, list[int]] = {}
    for index, size in enumerate(sizes):
        if size is not None:
            members.setdefault(size, []).append(index)
    return [Bucket(tuple(indices), input_size(*size), size, exact=True) for size, indices in members.items()]


def _covering(shapes: np.ndarray, counts: np.ndarray, most: int) -> np.ndarray:
    """int (S,): for each shape, which of at most `most` canvases it goes to, so that few pixels are padded.

    Starts with one canvas over all, and puts another in its place, or beside it, as long as that saves pixels: a
    k-medoids search, over canvases of the heights and widths that divide the shapes into equal parts.
    """
    shares = np.linspace(0, 1, _LEVELS + 1)[1:]
    sides = [np.unique(np.quantile(np.repeat(side, counts), shares, method="higher")) for side in shapes.T]
    canvases = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 2)
    fits = (shapes[:, None] <= canvases[None]).all(-1)
    pixels = np.where(fits, canvases.prod(-1).astype(float), np.inf)  # (S, canvases)
    chosen = [len(canvases) - 1] * most
    best, before = counts @ pixels[:, -1], np.inf
    while best < before:
        before = best
        for place in range(most):
            others = pixels[:, chosen[:place] + chosen[place + 1 :]].min(axis=1, initial=np.inf)
            totals = counts @ np.minimum(others[:, None], pixels)
            if totals.min() < best:
                chosen[place], best = int(totals.argmin()), totals.min()
    return np.array(chosen)[pixels[:, chosen].argmin(axis=1)]


def _bucket(indices: list[int], sizes: Sequence[Size], seen: np.ndarray, multiple: int) -> Bucket:
    canvas, label_canvas = seen.max(axis=0), np.max([sizes[index] for index in indices], axis=0)
    for side in (canvas, label_canvas):
        side[0] = -(-side[0] // multiple) * multiple
    by_width = sorted(indices, key=lambda index: (sizes[index][1], index))
    exact = bool((seen == canvas).all())
    return Bucket(tuple(by_width), tuple(map(int, canvas)), tuple(map(int, label_canvas)), exact)
