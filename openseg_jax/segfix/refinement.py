"""Refinement of many maps as a stream: threads load, the device refines, threads save."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from openseg_jax.data.offset_files import check_size
from openseg_jax.data.workers import in_threads
from openseg_jax.errors import InputError
from openseg_jax.inference.buckets import Size, make_buckets
from openseg_jax.labels.classes import ClassTable
from openseg_jax.labels.refinement import refine
from openseg_jax.page import percent
from openseg_jax.segfix.instances import CityscapesInstances, CocoInstances
from openseg_jax.segfix.label_files import check_id, read_header, read_labels, write_labels
from openseg_jax.segfix.offsets import ImageOffsets

MOST = 12  # maps that a tally keeps
_PIXELS = 1 << 20  # that the device gets at a time: small maps are refined together


class Loaded(NamedTuple):
    """A map before refinement: labels (H, W), offsets (H, W, 2), and what goes along with them."""

    labels: np.ndarray
    offsets: np.ndarray
    source: Any = None


class Refined(NamedTuple):
    """A map after refinement: its key, refined labels (H, W), how many of its pixels changed, and what it was."""

    key: Any
    labels: np.ndarray
    changed: int
    before: Loaded


@dataclasses.dataclass
class Tally:
    """Counts maps, their pixels, and how many of these changed; `most` keeps the maps of `shown` that changed most."""

    shown: Collection[str] = ()
    maps: int = 0
    pixels: int = 0
    changed: int = 0
    most: list[Refined] = dataclasses.field(default_factory=list)

    @property
    def share(self) -> str:
        """The share of the pixels that changed."""
        return f"{percent(self.changed / max(self.pixels, 1), 3)} %"

    def update(self, refined: Refined) -> None:
        """Adds a map."""
        self.maps, self.pixels = self.maps + 1, self.pixels + refined.labels.size
        self.changed += refined.changed
        if refined.changed and refined.key in self.shown:
            by_share = sorted([*self.most, refined], key=lambda x: (x.changed / x.labels.size, x.key), reverse=True)
            self.most = by_share[:MOST]


def refine_labels(
    files: Mapping[str, Path], offsets: Iterable[ImageOffsets], out: Path, classes: ClassTable | None = None, **options
) -> Iterator[Refined]:
    """Refines label maps in files, and yields each of them when it is saved.

    Args:
        files: Label maps by the names that offsets call them.
        offsets: The offsets of these maps, in any order.
        out: Folder for refined maps under the names, and in the encodings, of the files.
        classes: Ids of none of these classes become void first.
        **options: Those of `refine_all`. All maps must be able to hold the id `void`.
    """
    if any(file.parent.resolve() == out.resolve() for file in files.values()):
        raise InputError(f"{out} would be overwritten by its own refined maps: give another folder")

    def load(found: ImageOffsets) -> Loaded:
        file = files[found.name]
        labels = read_labels(file, classes)
        check_id(options.get("void"), labels, str(file))
        check_size(found.offsets, found.file, labels.ids.shape, file)
        return Loaded(labels.ids, found.offsets, labels)

    def save(refined: Refined) -> Refined:
        write_labels(out / files[refined.key].name, dataclasses.replace(refined.before.source, ids=refined.labels))
        return refined

    sizes = {name: read_header(file)[0] for name, file in files.items()}
    jobs = ((found.name, functools.partial(load, found)) for found in offsets)
    yield from in_threads(save, refine_all(sizes, jobs, **options))


def refine_instances(
    given: CityscapesInstances | CocoInstances, offsets: Iterable[ImageOffsets], out: Path, *, scale: int = 1, **options
) -> Iterator[Refined]:
    """Refines each mask of instance predictions alone, and yields it when it is saved.

    Args:
        given: The predictions.
        offsets: The offsets of `given.images`, in any order.
        out: A folder for refined predictions of Cityscapes, a file for those of COCO. Its lists are written last.
        scale: See `refine`; the original takes half of what it takes for label maps.
        **options: The others of `refine_all`.
    """
    if out.resolve() == given.path.resolve():
        raise InputError(f"{out} would be overwritten by its own refined masks: give another one")

    def load(key, found: ImageOffsets) -> Loaded:
        mask = given.read(key)
        check_size(found.offsets, found.file, mask.shape, given.where(key))
        return Loaded(mask, found.offsets)

    def save(refined: Refined) -> Refined:
        given.write(out, refined.key, refined.labels)
        return refined

    jobs = ((key, functools.partial(load, key, found)) for found in offsets for key in given.images[found.name])
    yield from in_threads(save, refine_all(given.sizes, jobs, scale=scale, **options))
    given.finish(out)


def refine_all(
    sizes: Mapping[Hashable, Size], jobs: Iterable[tuple[Hashable, Callable[[], Loaded]]], *, max_buckets=4, **options
) -> Iterator[Refined]:
    """Refines maps of any sizes with few programs, and yields them in the order of the jobs.

    Threads load a few maps ahead, and the device has the next batch to do while a result is yielded. Memory does not
    grow with the number of maps. Whatever a job raises ends it.

    Args:
        sizes: (height, width) of each map, by its key.
        jobs: Keys, each with a function that loads the map, which is called in a thread.
        max_buckets: How many padded shapes there are. Each has one program, or two if small maps are refined together.
        **options: `scale`, `iterations` and `void` of `refine`.
    """
    keys, buckets = list(sizes), make_buckets(list(sizes.values()), max_buckets=max_buckets)
    canvases = {keys[index]: bucket.canvas for bucket in buckets for index in bucket.indices}

    def load(batch: list) -> tuple[list[tuple[Hashable, Loaded]], np.ndarray, np.ndarray]:
        maps, padded = [(key, job()) for key, job in batch], []
        for key, (labels, offsets, _) in maps:
            size, canvas = tuple(sizes[key]), canvases[key]
            for name, array, shape in (("labels", labels, size), ("offsets", offsets, (*size, 2))):
                if array.shape != shape:
                    raise InputError(f"the {name} of map {key} are of shape {array.shape}, wanted {shape}")
            if size != canvas:
                beyond = [(0, canvas[0] - size[0]), (0, canvas[1] - size[1])]
                labels, offsets = np.pad(labels, beyond), np.pad(offsets, [*beyond, (0, 0)])
            padded.append((labels, offsets))
        return maps, *(x[0][None] if len(x) == 1 else np.stack(x) for x in zip(*padded, strict=True))

    def dispatch(maps: list[tuple[Hashable, Loaded]], labels: np.ndarray, offsets: np.ndarray):
        return maps, refine(labels, offsets, sizes=np.array([sizes[key] for key, _ in maps], np.int32), **options)

    batches = itertools.chain(itertools.starmap(dispatch, in_threads(load, _batches(jobs, canvases))), [None])
    for (maps, refined), _ in itertools.pairwise(batches):  # one batch late: the device always has the next one to do
        for (key, before), labels in zip(maps, np.asarray(refined), strict=True):
            (height, width), kind = before.labels.shape, before.labels.dtype
            labels = labels[:height, :width].astype(kind, copy=False)  # a batch is of the widest type of its maps
            yield Refined(key, labels, np.count_nonzero(labels != before.labels), before)


def _batches(jobs: Iterable[tuple[Hashable, Callable]], canvases: Mapping[Hashable, Size]) -> Iterator[list]:
    """Groups consecutive maps of one canvas, as many as have `_PIXELS`, and leaves the rest alone: two programs."""
    for (height, width), group in itertools.groupby(jobs, lambda job: canvases[job[0]]):
        count = max(_PIXELS // (height * width), 1)
        while batch := list(itertools.islice(group, count)):
            yield from [batch] if len(batch) == count else ([job] for job in batch)
