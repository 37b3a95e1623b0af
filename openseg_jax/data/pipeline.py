"""The endless stream of training batches of a source of samples.

A source has `len`, `source[i]` -> {"image", "label", "name"}, and `source.size(i)` -> (height, width).
"""

import dataclasses
import functools
import itertools
import sys
from collections.abc import Generator, Iterable
from typing import Any

import grain
import numpy as np

from openseg_jax.config import Config
from openseg_jax.data import transforms
from openseg_jax.data.augmentation import Augmentation
from openseg_jax.data.collate import Collate, make_collate
from openseg_jax.data.transforms import Size, Step
from openseg_jax.data.workers import in_turn

ENDLESS = sys.maxsize // 2**20  # as good as: grain rounds lengths as floats, and those of several parts add up


@dataclasses.dataclass(frozen=True)
class TrainSamples:
    """The endless, shuffled and augmented sequence of training samples, cut into batches of `batch_size`.

    The sample at a position is a function of (seed, position) alone.
    """

    source: Any
    augmentation: Augmentation
    collate: Collate
    seed: int
    batch_size: int

    @classmethod
    def of(cls, config: Config, source) -> "TrainSamples":
        """Returns the training samples of a run."""
        augmentation = Augmentation(**vars(config.augment), swap=source.classes.flip_pairs)
        return cls(source, augmentation, make_collate(config.augment), config.seed, config.train.batch_size)

    def __getitem__(self, position: int) -> dict[str, np.ndarray]:
        sample = self.source[self.index(position)]
        sample = transforms.apply(self.steps(position, transforms.size_of(sample)), sample)
        return {key: value for key, value in sample.items() if key != "name"}

    def index(self, position: int) -> int:
        """Returns which sample of the source stands at a position."""
        return int(self.order[position])

    def steps(self, position: int, size: Size) -> list[Step]:
        """Returns the steps that augment the sample at a position, given its (height, width).

        Together with `index` they are all that is needed to make the sample again.
        """
        rng = np.random.default_rng([self.seed, position])
        steps = self.augmentation.draw(size, rng)
        for step in steps:
            size = step.size_after(size)
        batch_rng = np.random.default_rng([self.seed, position // self.batch_size, 1])
        return steps + self.collate.draw(size, self.collate.target(batch_rng), rng)

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
        return ENDLESS

    def __getitem__(self, position: int) -> int:
        epoch, place = divmod(position, self.stop - self.start)
        return self.start + int(_permutation(self.stop - self.start, self.seed, epoch)[place])


@functools.lru_cache(maxsize=16)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def train_batches(
    samples: TrainSamples, *, start_step: int = 0, workers: int = 0, process: tuple[int, int] = (0, 1)
) -> Generator[dict[str, np.ndarray], None, None]:
    """Yields batches of samples without end.

    They depend neither on the number of workers, nor on where the stream was resumed, nor on the number of processes.

    Args:
        samples: The sequence of samples, or `on_device.RawSamples`.
        start_step: The number of batches to skip.
        workers: The number of processes that load; 0 loads in threads of this process.
        process: (rank, count): this process gets the consecutive rows of each batch that belong to its rank.

    Yields:
        {"image": uint8 (n, H, W, 3), "label": uint8 (n, H, W), "box": int32 (n, 4), ...} for the n rows of the process.

    Raises:
        InputError: A sample is wrong.
        WorkerError: A process that loads was killed.
    """
    rows = _Rows(samples, process)
    if workers:
        yield from in_turn(functools.partial(_of_worker, rows, start_step, workers), workers)
    else:
        options = grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)
        yield from _in_threads(rows, slice(start_step, None), options)


def _of_worker(rows: "_Rows", start_step: int, workers: int, index: int) -> Iterable[dict[str, np.ndarray]]:
    """The batches that one of the workers loads."""
    part = slice(start_step + index, None, workers)
    return _in_threads(rows, part, grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))


def _in_threads(rows: "_Rows", part: slice, options: grain.ReadOptions) -> Iterable[dict[str, np.ndarray]]:
    return grain.MapDataset.source(rows).batch(rows.local)[part].to_iter_dataset(options)


class _Rows:
    """The rows of one process out of the sequence of all samples."""

    def __init__(self, samples: TrainSamples, process: tuple[int, int]):
        index, count = process
        self.samples, self.local = samples, samples.batch_size // count
        self.first = index * self.local

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        step, row = divmod(index, self.local)
        return self.samples[step * self.samples.batch_size + self.first + row]
