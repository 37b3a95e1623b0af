"""Instance predictions in the files of Cityscapes.

FOLDER/NAME_pred.txt has a line "mask.png label score" for each instance of image NAME, whose mask is not 0 in that PNG
beside it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from openseg_jax.data.images import read_mask, read_size, write_image
from openseg_jax.data.offset_files import check_size, find_offsets, read_offsets
from openseg_jax.errors import InputError
from openseg_jax.files import read_text, write_bytes
from openseg_jax.segfix.tally import Refined, refine_and_count

LIST_SUFFIX = "_pred.txt"
_KEPT = 16  # offsets of so many images: masks of the same one follow each other


@dataclasses.dataclass(frozen=True)
class Instance:
    """mask: its file, relative to the list. label: the id of its class, as on disk. score: confidence."""

    mask: str
    label: int
    score: float


def read_cityscapes(folder: str | os.PathLike) -> dict[str, list[Instance]]:
    """The instances of each image, possibly none, by its name: FOLDER/NAME_pred.txt.

    Raises InputError on lines of another form, and on masks that are missing, outside the folder, or named twice.
    """
    folder = Path(folder)
    lists = sorted(folder.glob(f"*{LIST_SUFFIX}"))
    if not lists:
        raise InputError(f"{folder} has no list of instances *{LIST_SUFFIX}")
    found: dict[str, list[Instance]] = {}
    seen: dict[str, str] = {}
    for path in lists:
        instances = found[path.name.removesuffix(LIST_SUFFIX)] = []
        for number, line in enumerate(read_text(path).splitlines(), 1):
            if not line.strip():
                continue
            where = f"line {number} of {path}"
            instance = _parsed(line, where)
            mask = os.path.normpath(instance.mask)
            if os.path.isabs(mask) or ".." in Path(mask).parts:
                raise InputError(f"{where} names the mask {instance.mask}, which is not in {folder}")
            if mask in seen:
                raise InputError(f"{where} names the mask {instance.mask}, as {seen[mask]} does: each has its own")
            if not (folder / mask).is_file():
                raise InputError(f"{where} names the mask {instance.mask}, which is missing")
            seen[mask] = where
            instances.append(instance)
    return found


def write_cityscapes(
    folder: str | os.PathLike, name: str, instances: Sequence[Instance], masks: Iterable[np.ndarray]
) -> None:
    """The list of an image and its masks, (H, W) and not 0 on the instance, which are 255 there on disk."""
    folder = Path(folder)
    for instance, mask in zip(instances, masks, strict=True):
        _write_mask(folder / instance.mask, mask)
    lines = [f"{instance.mask} {instance.label} {instance.score}\n" for instance in instances]
    write_bytes(folder / f"{name}{LIST_SUFFIX}", "".join(lines).encode())


def refine_cityscapes(
    folder: str | os.PathLike,
    offsets: str | os.PathLike,
    out: str | os.PathLike,
    *,
    scale: int = 1,
    iterations: int = 1,
    max_buckets: int = 4,
    progress: Callable[[Iterable, int], Iterable] = lambda maps, count: maps,
) -> Refined:
    """Refines the masks of FOLDER by OFFSETS/NAME.npz or .mat into OUT, with the same lists.

    The lists are written last: where they are, all is done. Options: see `refine_all`.
    """
    folder, out = Path(folder), Path(out)
    if out.resolve() == folder.resolve():
        raise InputError(f"{out} would be overwritten by its own refined masks: give another folder")
    predictions = read_cityscapes(folder)
    masks = [(name, instance.mask) for name, instances in predictions.items() for instance in instances]
    offsets_of = {name: find_offsets(offsets, name) for name, instances in predictions.items() if instances}
    kept = functools.lru_cache(_KEPT)(read_offsets)

    def load(index: int) -> tuple[np.ndarray, np.ndarray]:
        name, file = masks[index]
        mask, found = (read_mask(folder / file) > 0).astype(np.uint8), kept(offsets_of[name])
        check_size(found, offsets_of[name], mask.shape, folder / file)
        return mask, found

    refined = refine_and_count(
        [read_size(folder / file) for _, file in masks],
        load,
        lambda index, mask, changed: _write_mask(out / masks[index][1], mask),
        scale=scale,
        iterations=iterations,
        max_buckets=max_buckets,
        progress=progress,
    )
    for name in predictions:
        write_bytes(out / f"{name}{LIST_SUFFIX}", (folder / f"{name}{LIST_SUFFIX}").read_bytes())
    return refined


def _parsed(line: str, where: str) -> Instance:
    parts = line.split()
    try:
        mask, label, score = parts[0], float(parts[1]), float(parts[2])
    except (IndexError, ValueError):
        mask, label, score = "", math.nan, math.nan
    if len(parts) != 3 or not label.is_integer() or not math.isfinite(score):
        raise InputError(f'{where} should be "mask.png label score", found {line.strip()!r}')
    return Instance(mask, int(label), score)


def _write_mask(path: Path, mask: np.ndarray) -> None:
    write_image(path, (mask > 0).astype(np.uint8) * 255)
