"""What SegFix learns as files, which the original's preparation scripts write and training can read."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from openseg_jax.data.images import read_mask
from openseg_jax.data.maps import COMPUTED, INSTANCES, Maps, write_offset
from openseg_jax.data.workers import start_worker
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable
from openseg_jax.segfix.label_files import find_labels

FOLDER, INSTANCE_FOLDER = "offset_gt/dt_offset", "offset_gt/dt_offset_inst_w_stuff"


def write_truth(
    split: Path,
    classes: ClassTable,
    *,
    instances: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    progress: Callable[[Iterable, int], Iterable] = lambda files, count: files,
) -> tuple[int, int, Path]:
    """(maps written, maps that were there already, folder): SPLIT/offset_gt/.../NAME.mat of each SPLIT/label/NAME.png.

    instances: distances to the end of instances, from SPLIT/instance/NAME.png, see `instance_offsets`.
    overwrite: write those again that are there. workers: processes; the files do not depend on them.
    """
    out = split / (INSTANCE_FOLDER if instances else FOLDER)
    masks = {out / f"{name}.mat": mask for name, mask in find_labels(split / "label").items()}
    wanted = [path for path in masks if overwrite or not path.exists()]
    maps = Maps(("offset",), INSTANCES if instances else COMPUTED, classes, split)
    write = functools.partial(_write, maps, classes)
    jobs = [masks[path] for path in wanted], wanted
    if workers <= 1:
        for _ in progress(map(write, *jobs), len(wanted)):
            pass
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, max(len(wanted), 1)), context, start_worker) as pool:
            try:
                for _ in progress(pool.map(write, *jobs), len(wanted)):
                    pass
            except BrokenProcessPool as error:
                raise InputError(
                    "a worker process was killed, perhaps because memory ran out: run the same command again, with "
                    "fewer --workers, and it goes on from here"
                ) from error
    return len(wanted), len(masks) - len(wanted), out


def _write(maps: Maps, classes: ClassTable, mask: Path, out: Path) -> None:
    label = classes.encode(read_mask(mask, colors=classes.masks == "colors"), str(mask))
    write_offset(out, **maps(mask.stem, label))
