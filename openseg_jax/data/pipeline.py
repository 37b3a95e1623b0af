"""From a source of samples to batches of numpy arrays: an endless stream for training, each image once for evaluation.

A source has `len`, `source[i]` -> {"image", "label", "name"}, and `source.size(i)` -> (height, width).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence

import cv2
import grain
import numpy as np

from openseg_jax.data import transforms

# ---------------------------------------------------------------------------------------------------------------------
# Training


def train_batches(
    source,
    transform: transforms.Compose,
    *,
    seed: int,
    batch_size: int,
    start_step: int = 0,
    workers: int = 0,
    process: tuple[int, int] = (0, 1),
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches {"image": uint8 (n, H, W, 3), "label": uint8 (n, H, W), "box": int32 (n, 4)}.

    Sample j of step s is a function of (seed, s, j) only: not of the workers, not of where the stream was resumed,
    and not of the processes, of which number `process[0]` of `process[1]` gets its n consecutive rows of the batch.
    workers: processes that load; 0 loads in threads of this process.
    """
    rows = _Rows(source, transform, seed, batch_size, process)
    dataset = grain.MapDataset.source(rows).batch(rows.local)[start_step:]
    if workers == 0:
        return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)))
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
    read = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    return iter(dataset.to_iter_dataset(read).mp_prefetch(options, worker_init_fn=_quiet_worker))


class _Rows:
    """The rows of one process, out of the endless, shuffled and augmented sequence of samples."""

    def __init__(self, source, transform, seed: int, batch_size: int, process: tuple[int, int]):
        index, count = process
        self.batch_size, self.local = batch_size, batch_size // count
        self.first = index * self.local
        augment = _Augment(transform)
        self.samples = grain.MapDataset.source(source).seed(seed).shuffle().repeat(None).random_map(augment)

    def __len__(self) -> int:
        return sys.maxsize // self.batch_size * self.local

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        step, row = divmod(index, self.local)
        return self.samples[step * self.batch_size + self.first + row]


@dataclasses.dataclass(frozen=True)
class _Augment(grain.transforms.RandomMap):
    transform: transforms.Compose

    def random_map(self, sample, rng):
        augmented = self.transform(sample, rng)
        return {key: augmented[key] for key in ("image", "label", "box")}


def _quiet_worker(worker_index: int, worker_count: int) -> None:
    del worker_index, worker_count
    cv2.setNumThreads(0)  # one thread per process: parallelism comes from the number of workers


# ---------------------------------------------------------------------------------------------------------------------
# Evaluation


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Images that share one padded shape, and so one compiled program.

    indices: into the source. canvas: (height, width) of the network's input; label_canvas: of the output.
    """

    indices: tuple[int, ...]
    canvas: tuple[int, int]
    label_canvas: tuple[int, int]


def make_buckets(
    sizes: Sequence[tuple[int, int]],
    *,
    max_buckets: int,
    input_size: Callable[[int, int], tuple[int, int]] = lambda height, width: (height, width),
    multiple: int = 1,
) -> list[Bucket]:
    """Groups images of all sizes into at most `max_buckets` padded shapes, with little padding.

    Starts from one group per size and merges, again and again, the two whose union adds the fewest padded pixels.
    input_size: the size at which the network sees an image. multiple: of which the height of a canvas must be.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for index, size in enumerate(sizes):
        groups.setdefault(size, []).append(index)
    shapes = np.array(list(groups), np.int64).reshape(-1, 2)
    members = list(groups.values())
    while len(members) > max_buckets:
        counts = np.array([len(m) for m in members])
        union = np.maximum(shapes[:, None], shapes[None])
        added = (counts[:, None] + counts[None]) * union.prod(-1) - (counts * shapes.prod(-1))[:, None]
        added = added - (counts * shapes.prod(-1))[None] + np.where(np.eye(len(members), dtype=bool), np.inf, 0)
        a, b = sorted(np.unravel_index(np.argmin(added), added.shape))
        shapes[a], members[a] = union[a, b], members[a] + members[b]
        shapes, members = np.delete(shapes, b, axis=0), members[:b] + members[b + 1 :]

    def bucket(indices: list[int]) -> Bucket:
        label_canvas = np.max([sizes[i] for i in indices], axis=0)
        canvas = np.max([input_size(*sizes[i]) for i in indices], axis=0)
        canvas[0] = -(-canvas[0] // multiple) * multiple
        label_canvas[0] = -(-label_canvas[0] // multiple) * multiple
        return Bucket(tuple(sorted(indices)), tuple(map(int, canvas)), tuple(map(int, label_canvas)))

    return [bucket(indices) for indices in members]


def eval_batches(
    source,
    buckets: Sequence[Bucket],
    *,
    batch_size: int,
    input_size: Callable[[int, int], tuple[int, int]] = lambda height, width: (height, width),
    process: tuple[int, int] = (0, 1),
) -> Iterator[dict[str, np.ndarray]]:
    """Each image exactly once, in batches of one bucket; the rows that fill up a bucket's last batch have index -1.

    image: uint8 (n, H, W, 3) at the top left of the bucket's canvas; size: int32 (n, 2), its true (height, width).
    label: uint8 (n, H', W') at the image's own size, 255 around it; label_size: int32 (n, 2). index: int32 (n,).
    """
    rank, count = process
    local = batch_size // count
    plan = []
    for bucket in buckets:
        for start in range(0, len(bucket.indices), batch_size):
            indices = [*bucket.indices[start : start + batch_size]]
            indices += [-1] * (batch_size - len(indices))
            plan.append((bucket, indices[rank * local : (rank + 1) * local]))

    def load(step) -> dict[str, np.ndarray]:
        bucket, indices = step
        rows = [_eval_row(source, index, bucket, input_size) for index in indices]
        return {key: np.stack([row[key] for row in rows]) for key in rows[0]}

    dataset = grain.MapDataset.source(plan).map(load)
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=4)))


def _eval_row(source, index: int, bucket: Bucket, input_size) -> dict[str, np.ndarray]:
    if index < 0:
        blank = np.zeros((*bucket.label_canvas, 3), np.uint8), np.full(bucket.label_canvas, 255, np.uint8)
        sample = {"image": blank[0], "label": blank[1]}
        size = bucket.canvas
    else:
        sample = source[index]
        size = input_size(*sample["label"].shape)
    label_size = sample["label"].shape
    image = sample["image"] if size == label_size else transforms.resize(sample, *size)["image"]
    canvas = np.zeros((*bucket.canvas, 3), np.uint8)
    canvas[: size[0], : size[1]] = image
    label = np.full(bucket.label_canvas, 255, np.uint8)
    label[: label_size[0], : label_size[1]] = sample["label"]
    return {
        "image": canvas,
        "size": np.array(size, np.int32),
        "label": label,
        "label_size": np.array(label_size, np.int32),
        "index": np.int32(index),
    }
