"""Instance predictions in the files of Cityscapes and of COCO, and their refinement by offsets.

Cityscapes: FOLDER/NAME_pred.txt has a line "mask.png label score" for each instance of image NAME, whose mask is not 0
in that PNG beside it. COCO: a JSON list of {"image_id", "category_id", "score", "segmentation": {"size", "counts"}}.
Refinement as in SegFix (Yuan, Xie, Chen and Wang, ECCV 2020, arXiv:2007.04269), of each mask alone.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from openseg_jax.data.images import read_mask, read_size, write_image
from openseg_jax.errors import InputError
from openseg_jax.segfix.refine import check_size, find_offsets, read_offsets, refine_all

LIST_SUFFIX = "_pred.txt"
_KEYS = {"image_id", "category_id", "score", "segmentation"}
_KEPT = 16  # offsets of so many images: masks of the same one follow each other

# ---------------------------------------------------------------------------------------------------------------------
# Cityscapes


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
        for number, line in enumerate(_text(path).splitlines(), 1):
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
    _write(folder / f"{name}{LIST_SUFFIX}", "".join(lines).encode())


def refine_cityscapes(
    folder: str | os.PathLike,
    offsets: str | os.PathLike,
    out: str | os.PathLike,
    *,
    scale: int = 1,
    iterations: int = 1,
    max_buckets: int = 4,
    progress: Callable[[Iterable, int], Iterable] = lambda maps, count: maps,
) -> int:
    """Refines the masks of FOLDER by OFFSETS/NAME.npz or .mat into OUT, with the same lists; returns their number.

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

    refine_all(
        [read_size(folder / file) for _, file in masks],
        load,
        lambda index, mask: _write_mask(out / masks[index][1], mask),
        scale=scale,
        iterations=iterations,
        max_buckets=max_buckets,
        progress=progress,
    )
    for name in predictions:
        _write(out / f"{name}{LIST_SUFFIX}", (folder / f"{name}{LIST_SUFFIX}").read_bytes())
    return len(masks)


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


# ---------------------------------------------------------------------------------------------------------------------
# COCO


def read_coco(path: str | os.PathLike) -> list[dict]:
    """A list of predictions as it is on disk; masks are decoded by `decode`.

    Raises InputError on entries without image_id, category_id, score, or a segmentation as a run-length code.
    """
    predictions = _json(Path(path))
    if not isinstance(predictions, list):
        raise InputError(f"{path} should hold a list of predictions, found {type(predictions).__name__}")
    for number, prediction in enumerate(predictions):
        where = f"prediction {number} of {path}"
        missing = sorted(_KEYS - set(prediction if isinstance(prediction, dict) else ()))
        if missing:
            raise InputError(f"{where} has no {missing[0]}")
        if not isinstance(prediction["image_id"], (int, str)):
            raise InputError(f"{where}: image_id should be a number or a name, found {prediction['image_id']}")
        code = prediction["segmentation"]
        size = code.get("size") if isinstance(code, dict) else None
        whole = isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)
        if not whole or not isinstance(code.get("counts"), (str, list)):
            raise InputError(f'{where}: wanted {{"size": [height, width], "counts": ...}}, found {str(code)[:80]}')
    return predictions


def write_coco(path: str | os.PathLike, predictions: Sequence[dict]) -> None:
    _write(Path(path), f"{json.dumps(predictions)}\n".encode())


def decode(segmentation: Mapping, where: str) -> np.ndarray:
    """uint8 (H, W), 1 on the instance, from a run-length code, compressed or not. `where` names it in errors."""
    coder = _coder()
    height, width = segmentation["size"]
    try:
        if isinstance(segmentation["counts"], list):
            segmentation = coder.frPyObjects(dict(segmentation), height, width)
        mask = coder.decode(dict(segmentation))
        complete = not _fits(segmentation["counts"], height * width - 1)  # what a short code leaves out is undefined
    except (ValueError, OverflowError, TypeError):
        complete = False
    if not complete:
        raise InputError(f"{where}: its run-length code is not that of {height} x {width} pixels")
    return mask


def encode(mask: np.ndarray) -> dict:
    """The compressed run-length code of a mask, (H, W) and not 0 on the instance."""
    code = _coder().encode(np.asfortranarray(mask > 0, np.uint8))
    return {"size": list(code["size"]), "counts": code["counts"].decode("ascii")}


def read_image_names(path: str | os.PathLike) -> dict:
    """The name without suffix of each image, by its id: of the "images" of a COCO annotation file."""
    content = _json(Path(path))
    try:
        return {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
    except (KeyError, TypeError) as error:
        raise InputError(f'{path} should hold a list "images" of objects with "id" and "file_name"') from error


def refine_coco(
    path: str | os.PathLike,
    offsets: str | os.PathLike,
    out: str | os.PathLike,
    *,
    names: Mapping | None = None,
    scale: int = 1,
    iterations: int = 1,
    max_buckets: int = 4,
    progress: Callable[[Iterable, int], Iterable] = lambda maps, count: maps,
) -> int:
    """Refines predictions by OFFSETS/NAME.npz or .mat into the file OUT; returns their number.

    Masks are compressed then, boxes are those of the refined masks, and all else is kept. names: the NAME of each
    image_id, see `read_image_names`; the image_id itself without it. Options: see `refine_all`.
    """
    predictions = read_coco(path)
    offsets_of = {}
    for number, prediction in enumerate(predictions):
        image = prediction["image_id"]
        if names is not None and image not in names:
            raise InputError(f"prediction {number} of {path} is of the image {image}, which the list of images lacks")
        if image not in offsets_of:
            offsets_of[image] = find_offsets(offsets, str(names[image] if names is not None else image))
    order = sorted(range(len(predictions)), key=lambda number: str(predictions[number]["image_id"]))
    kept = functools.lru_cache(_KEPT)(read_offsets)
    refined = [dict(prediction) for prediction in predictions]

    def load(index: int) -> tuple[np.ndarray, np.ndarray]:
        number = order[index]
        code, file = predictions[number]["segmentation"], offsets_of[predictions[number]["image_id"]]
        where, found = f"prediction {number} of {path}", kept(file)
        check_size(found, file, tuple(code["size"]), where)
        return decode(code, where), found

    def save(index: int, mask: np.ndarray) -> None:
        prediction = refined[order[index]]
        prediction["segmentation"] = encode(mask)
        if "bbox" in prediction:
            prediction["bbox"] = _coder().toBbox(prediction["segmentation"]).tolist()

    refine_all(
        [tuple(predictions[number]["segmentation"]["size"]) for number in order],
        load,
        save,
        scale=scale,
        iterations=iterations,
        max_buckets=max_buckets,
        progress=progress,
    )
    write_coco(out, refined)
    return len(refined)


def _coder():
    try:
        from pycocotools import mask
    except ImportError as error:
        raise InputError("run-length codes need pycocotools: pip install 'openseg_jax[instances]'") from error
    return mask


def _fits(counts: bytes | str, pixels: int) -> bool:
    """Whether a compressed run-length code is of at most so many pixels."""
    try:
        _coder().decode({"size": [pixels, 1], "counts": counts})
    except ValueError:
        return False
    return True


# ---------------------------------------------------------------------------------------------------------------------
# Both


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _json(path: Path):
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
