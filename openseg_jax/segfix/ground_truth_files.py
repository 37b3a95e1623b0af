"""The ground truth of SegFix in files, as the original's preparation scripts write them and training can read them."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

from openseg_jax.data.images import read_mask
from openseg_jax.data.maps import COMPUTED, INSTANCES, Maps, write_offset
from openseg_jax.data.workers import in_processes
from openseg_jax.labels.classes import ClassTable

FOLDER, INSTANCE_FOLDER = "offset_gt/dt_offset", "offset_gt/dt_offset_inst_w_stuff"  # in SPLIT, as the original


def write_ground_truth(
    files: Mapping[Path, Path], split: Path, classes: ClassTable, *, instances: bool = False, workers: int = 1
) -> Iterator[None]:
    """Writes distances and directions, see `write_offset`, and yields once for each file that is complete.

    files: The files to write, each with its label map, SPLIT/label/NAME.png. instances: Takes distances to the end of
    instances, from SPLIT/instance/NAME.png, see `instance_offsets`. workers: How many processes compute.
    """
    maps = Maps(classes, split, maps=("offset",), offset_folder=INSTANCES if instances else COMPUTED)
    write = functools.partial(_write, maps, classes)
    yield from in_processes(write, files, files.values(), workers=workers)


def _write(maps: Maps, classes: ClassTable, out: Path, mask: Path) -> None:
    label = classes.encode(read_mask(mask, colors=classes.masks == "colors"), str(mask))
    write_offset(out, **maps(mask.stem, label))
