"""From a source of samples to batches of numpy arrays: an endless stream for training, each image once for evaluation.

A source has `len`, `source[i]` -> {"image", "label", "name"}, and `source.size(i)` -> (height, width).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence

import cv2
import grain
import numpy as np

from openseg_jax.data import transforms
from openseg_jax.data.collate import Collate
from openseg_jax.data.transforms.functions import FILLS
from openseg_jax.errors import InputError
from openseg_jax.inference.buckets import Bucket

# ---------------------------------------------------------------------------------------------------------------------
# Training


@dataclasses.dataclass(frozen=True)
class TrainSamples:
    """The endless, shuffled and augmented sequence of training samples, cut into batches of `batch_size`.

    The sample at a position is a function of (seed, position) alone.
    """

    source: object
    chain: transforms.Transform
    collate: Collate
    seed: int
    batch_size: int

    def __getitem__(self, position: int) -> dict[str, np.ndarray]:
        sample = self.source[self.index(position)]
        for step in self.steps(position, transforms.size_of(sample)):
            sample = step(sample)
        return {key: value for key, value in sample.items() if key != "name"}

    def index(self, position: int) -> int:
        """Returns which sample of the source stands at a position."""
        return int(self.order[position])

    def steps(self, position: int, size: tuple[int, int]) -> list[transforms.Step]:
        """Returns the steps that augment the sample at a position, given its (height, width).

        Together with `index` they are all that is needed to make the sample again.
        """
        rng = np.random.default_rng([self.seed, position])
        steps = self.chain.draw(size, rng)
        for step in steps:
            size = step.size_after(size)
        batch_rng = np.random.default_rng([self.seed, position // self.batch_size, 1])
        return steps + self.collate.fit(self.collate.target(batch_rng)).draw(size, rng)

    @functools.cached_property
    def order(self):
        """The index at each position: every epoch has all samples in a new order, or the parts mix by weight."""
        if getattr(self.source, "weights", None) is None:
            return _Shuffled(0, len(self.source), self.seed)
        starts = self.source.starts
        parts = [_Shuffled(a, b, self.seed + i) for i, (a, b) in enumerate(itertools.pairwise(starts))]
        return grain.MapDataset.mix([grain.MapDataset.source(part) for part in parts], self.source.weights)


@dataclasses.dataclass(frozen=True)
class _Shuffled:
    """The numbers from start to stop, again and again, each time in another order."""

    start: int
    stop: int
    seed: int

    def __len__(self) -> int:
        return sys.maxsize // 2**20  # as good as endless, and several of them fit into a mixture

    def __getitem__(self, position: int) -> int:
        epoch, place = divmod(position, self.stop - self.start)
        return self.start + int(_permutation(self.stop - self.start, self.seed, epoch)[place])


@functools.lru_cache(maxsize=16)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def train_batches(
    samples: TrainSamples, *, start_step: int = 0, workers: int = 0, process: tuple[int, int] = (0, 1)
) -> Iterator[dict[str, np.ndarray]]:
    """Yields batches of samples without end.

    They depend neither on the number of workers, nor on where the stream was resumed, nor on the number of processes.

    Args:
        samples: The sequence of samples, or `on_device.RawSamples`.
        start_step: The number of batches to skip.
        workers: The number of processes that load; 0 loads in threads of this process.
        process: (rank, count): this process gets the consecutive rows of each batch that belong to its rank.

    Yields:
        {"image": uint8 (n, H, W, 3), "label": uint8 (n, H, W), "box": int32 (n, 4), ...} for the n rows of the process.
    """
    rows = _Rows(samples, process)
    dataset = grain.MapDataset.source(rows).batch(rows.local)[start_step:]
    if workers == 0:
        return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)))
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
    read = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    return iter(dataset.to_iter_dataset(read).mp_prefetch(options, worker_init_fn=_start_worker))


class _Rows:
    """The rows of one process out of the sequence of all samples."""

    def __init__(self, samples: TrainSamples, process: tuple[int, int]):
        index, count = process
        self.samples, self.local = samples, samples.batch_size // count
        self.first = index * self.local

    def __len__(self) -> int:
        return sys.maxsize // self.samples.batch_size * self.local

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        step, row = divmod(index, self.local)
        return self.samples[step * self.samples.batch_size + self.first + row]


def _start_worker(index: int, count: int) -> None:
    del index, count
    cv2.setNumThreads(0)  # the processes are the parallelism


# ---------------------------------------------------------------------------------------------------------------------
# Evaluation


def eval_batches(
    source,
    buckets: Sequence[Bucket],
    *,
    batch_size: int,
    input_size: Callable[[int, int], tuple[int, int]] = lambda height, width: (height, width),
    net_size: Callable[[int, int], tuple[int, int]] = lambda height, width: (height, width),
    process: tuple[int, int] = (0, 1),
    maps: tuple[str, ...] = (),
    start: int = 0,
    on_failure: Callable[[int, InputError], None] | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Each image exactly once, in batches of one bucket; the rows that fill up a bucket's last batch have index -1.

    image: uint8 (n, H, W, 3) at the top left of the bucket's canvas; size: int32 (n, 2), its true (height, width);
    net_size: int32 (n, 2), the same with the padding that the net takes for part of it.
    label: uint8 (n, H', W') at the image's own size, 255 around it; label_size: int32 (n, 2). index: int32 (n,).
    maps: names of further maps of a sample, such as "distance", that come along like the label.
    start: batches to leave out. on_failure: called with the index of a sample that cannot be read and the error; its
    row is then one that fills up.
    """
    rank, count = process
    local = batch_size // count
    plan = []
    for bucket in buckets:
        for first in range(0, len(bucket.indices), batch_size):
            indices = [*bucket.indices[first : first + batch_size]]
            indices += [-1] * (batch_size - len(indices))
            plan.append((bucket, indices[rank * local : (rank + 1) * local]))

    def row(bucket: Bucket, index: int) -> dict[str, np.ndarray]:
        try:
            return _eval_row(source, index, bucket, input_size, net_size, maps)
        except InputError as error:
            if on_failure is None:
                raise
            on_failure(index, error)
            return _eval_row(source, -1, bucket, input_size, net_size, maps)

    def load(step) -> dict[str, np.ndarray]:
        bucket, indices = step
        rows = [row(bucket, index) for index in indices]
        return {key: np.stack([row[key] for row in rows]) for key in rows[0]}

    if start >= len(plan):
        return iter(())
    dataset = grain.MapDataset.source(plan[start:]).map(load)
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=4)))


def _eval_row(source, index: int, bucket: Bucket, input_size, net_size, maps: tuple[str, ...]) -> dict[str, np.ndarray]:
    if index < 0:
        blank = {"image": np.zeros((*bucket.label_canvas, 3), np.uint8)}
        sample = blank | {name: _blank(name, bucket.label_canvas) for name in ("label", *maps)}
        size = bucket.canvas
    else:
        sample = source[index]
        size = input_size(*sample["label"].shape)
    label_size = sample["label"].shape
    image = sample["image"] if size == label_size else transforms.resize(sample, *size)["image"]
    row = {
        "image": _placed(image, bucket.canvas, 0),
        "size": np.array(size, np.int32),
        "net_size": np.array(net_size(*size), np.int32),
        "label": _placed(sample["label"].astype(np.uint8), bucket.label_canvas, FILLS["label"]),
        "label_size": np.array(label_size, np.int32),
        "index": np.int32(index),
    }
    return row | {name: _placed(_narrow(sample[name]), bucket.label_canvas, FILLS[name]) for name in maps}


def _blank(name: str, canvas: tuple[int, int]) -> np.ndarray:
    if name == "offsets":
        return np.zeros((*canvas, 2), np.int8)
    return np.full(canvas, FILLS[name])


def _narrow(x: np.ndarray) -> np.ndarray:
    return x if x.dtype == np.int8 else x.astype(np.float32)


def _placed(x: np.ndarray, canvas: tuple[int, int], fill: float) -> np.ndarray:
    """At the top left of a canvas."""
    result = np.full((*canvas, *x.shape[2:]), fill, x.dtype)
    result[: x.shape[0], : x.shape[1]] = x
    return result
