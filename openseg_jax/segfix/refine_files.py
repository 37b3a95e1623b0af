"""Refinement of label maps from file to file."""

from __future__ import annotations

import dataclasses
import heapq
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from openseg_jax.data.offset_files import check_size
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable
from openseg_jax.segfix.label_files import LabelMap, check_id, read_header, read_labels, write_labels
from openseg_jax.segfix.tally import Refined, refine_and_count

MOST = 12  # changes that are kept


class Change(NamedTuple):
    """share: of the pixels of the map number `index`, how many changed; offsets: int8 (H, W, 2), by which."""

    share: float
    index: int
    offsets: np.ndarray


def refine_labels(
    files: Sequence[Path],
    offsets: Callable[[int], tuple[Path, np.ndarray] | None],
    out: Path,
    *,
    void: int | None = None,
    classes: ClassTable | None = None,
    shown: Collection[int] = (),
    **options,
) -> tuple[Refined, list[Change]]:
    """Refines label maps into OUT, under their names and in their encodings; also returns where most changed.

    offsets: index -> (the file that they come from, int8 (H, W, 2)), called more or less in order, from threads; None
    leaves a map as it is. void: as in `refine`; an id that the maps can have. classes: ids of no class become its void
    first. shown: the maps of which those that changed most are returned, at most `MOST`. options: scale, iterations,
    max_buckets and progress of `refine_all`.
    """
    if any(file.parent.resolve() == out.resolve() for file in files):
        raise InputError(f"{out} would be overwritten by its own refined maps: give another folder")
    pending: dict[int, tuple[LabelMap, np.ndarray]] = {}
    changes: list[Change] = []
    lock = threading.Lock()

    def load(index: int) -> tuple[np.ndarray, np.ndarray]:
        labels, found = prepared(files[index], classes), offsets(index)
        check_id(void, labels, str(files[index]))
        if found is None:
            steps = np.zeros((*labels.ids.shape, 2), np.int8)
        else:
            file, steps = found
            check_size(steps, file, labels.ids.shape, files[index])
        pending[index] = labels, steps
        return labels.ids, steps

    def save(index: int, refined: np.ndarray, changed: int) -> None:
        labels, steps = pending.pop(index)
        write_labels(out / files[index].name, dataclasses.replace(labels, ids=refined))
        if index not in shown or not changed:
            return
        with lock:
            changes.append(Change(changed / refined.size, index, steps))
            changes[:] = heapq.nlargest(MOST, changes, key=lambda change: change[:2])

    refined = refine_and_count([read_header(file)[0] for file in files], load, save, void=void, **options)
    return refined, changes


def prepared(file: Path, classes: ClassTable | None) -> LabelMap:
    """A label map as refinement takes it: with the void of `classes`, if given, in place of what is no class."""
    labels = read_labels(file)
    return labels if classes is None else labels.of_classes(classes, str(file))
