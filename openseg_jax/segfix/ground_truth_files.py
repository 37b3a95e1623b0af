"""The ground truth of SegFix in files, as the original's preparation scripts write them and training can read them."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from openseg_jax.data.images import read_mask
from openseg_jax.data.maps import COMPUTED, INSTANCES, Maps, write_offset
from openseg_jax.data.workers import start_worker
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable

FOLDER, INSTANCE_FOLDER = "offset_gt/dt_offset", "offset_gt/dt_offset_inst_w_stuff"


def write_ground_truth(
    split: Path, names: Mapping[str, Path], classes: ClassTable, *, instances: bool = False, workers: int = 1
) -> Iterator[Path]:
    """Writes `ground_truth_file(split, NAME)` for label maps, and yields each file as it is written.

    Args:
        split: the folder of the split.
        names: the label maps by NAME.
        classes: the classes of the label maps.
        instances: takes distances to the end of instances, from SPLIT/instance/NAME.png, see `instance_offsets`.
        workers: how many processes compute; the files do not depend on it.
    """
    maps = Maps(("offset",), INSTANCES if instances else COMPUTED, classes, split)
    write = functools.partial(_write, maps, classes)
    jobs = names.values(), [ground_truth_file(split, name, instances=instances) for name in names]
    if workers <= 1:
        yield from map(write, *jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, max(len(names), 1)), context, start_worker) as pool:
        try:
            yield from pool.map(write, *jobs)
        except BrokenProcessPool as error:
            raise InputError(
                "a worker process was killed, perhaps because memory ran out: run the same command again, with "
                "fewer --workers, and it goes on from here"
            ) from error


def ground_truth_file(split: Path, name: str, *, instances: bool = False) -> Path:
    """Returns SPLIT/offset_gt/.../NAME.mat."""
    return split / (INSTANCE_FOLDER if instances else FOLDER) / f"{name}.mat"


def _write(maps: Maps, classes: ClassTable, mask: Path, out: Path) -> Path:
    label = classes.encode(read_mask(mask, colors=classes.masks == "colors"), str(mask))
    write_offset(out, **maps(mask.stem, label))
    return out
