"""The ground truth of SegFix in files, as the original's preparation scripts write them and training can read them."""

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

FOLDER, INSTANCE_FOLDER = "offset_gt/dt_offset", "offset_gt/dt_offset_inst_w_stuff"  # in SPLIT, as the original


def write_ground_truth(
    files: Mapping[Path, Path], split: Path, classes: ClassTable, *, instances: bool = False, workers: int = 1
) -> Iterator[None]:
    """Writes distances and directions, see `write_offset`, and yields once for each file that is complete.

    Args:
        files: The files to write, each with its label map, SPLIT/label/NAME.png.
        split: The folder of the split.
        classes: The classes of the label maps.
        instances: Takes distances to the end of instances, from SPLIT/instance/NAME.png, see `instance_offsets`.
        workers: How many processes compute; the files do not depend on it.
    """
    maps = Maps(classes, split, maps=("offset",), offset_folder=INSTANCES if instances else COMPUTED)
    write = functools.partial(_write, maps, classes)
    if workers <= 1:
        yield from map(write, files, files.values())
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, max(len(files), 1)), context, start_worker) as pool:
        try:
            yield from pool.map(write, files, files.values())
        except BrokenProcessPool as error:
            raise InputError(
                "a worker process was killed, perhaps because memory ran out: run the same command again, with "
                "fewer --workers, and it goes on from here"
            ) from error


def _write(maps: Maps, classes: ClassTable, out: Path, mask: Path) -> None:
    label = classes.encode(read_mask(mask, colors=classes.masks == "colors"), str(mask))
    write_offset(out, **maps(mask.stem, label))
