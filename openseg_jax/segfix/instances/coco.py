"""Instance predictions in the files of COCO.

A JSON list of {"image_id", "category_id", "score", "segmentation": {"size", "counts"}}, masks as run-length codes.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from openseg_jax.data.offset_files import check_size, find_offsets, read_offsets
from openseg_jax.errors import InputError
from openseg_jax.files import read_json, write_bytes
from openseg_jax.segfix.tally import Refined, refine_and_count

_KEYS = {"image_id", "category_id", "score", "segmentation"}
_KEPT = 16  # offsets of so many images: masks of the same one follow each other


def read_coco(path: str | os.PathLike) -> list[dict]:
    """A list of predictions as it is on disk; masks are decoded by `decode`.

    Raises InputError on entries without image_id, category_id, score, or a segmentation as a run-length code.
    """
    predictions = read_json(Path(path))
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
    write_bytes(Path(path), f"{json.dumps(predictions)}\n".encode())


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
    content = read_json(Path(path))
    try:
        return {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
    except (KeyError, TypeError) as error:
        raise InputError(f'{path} should hold a list "images" of objects with "id" and "file_name"') from error


def images_of(path: str | os.PathLike, predictions: Sequence[dict], names: Mapping | None) -> dict:
    """The NAME of each image_id that predictions, those of the file `path`, are of; see `refine_coco`."""
    found = {}
    for number, prediction in enumerate(predictions):
        image = prediction["image_id"]
        if names is not None and image not in names:
            raise InputError(f"prediction {number} of {path} is of the image {image}, which the list of images lacks")
        found[image] = str(image if names is None else names[image])
    return found


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
) -> Refined:
    """Refines predictions by OFFSETS/NAME.npz or .mat into the file OUT.

    Masks are compressed then, boxes are those of the refined masks, and all else is kept. names: the NAME of each
    image_id, see `read_image_names`; the image_id itself without it. Options: see `refine_all`.
    """
    path, out = Path(path), Path(out)
    if out.resolve() == path.resolve():
        raise InputError(f"{out} would be overwritten by its own refined predictions: give another file")
    predictions = read_coco(path)
    images = images_of(path, predictions, names)
    offsets_of = {image: find_offsets(offsets, name) for image, name in images.items()}
    order = sorted(range(len(predictions)), key=lambda number: str(predictions[number]["image_id"]))
    kept = functools.lru_cache(_KEPT)(read_offsets)
    refined = [dict(prediction) for prediction in predictions]

    def load(index: int) -> tuple[np.ndarray, np.ndarray]:
        number = order[index]
        code, file = predictions[number]["segmentation"], offsets_of[predictions[number]["image_id"]]
        where, found = f"prediction {number} of {path}", kept(file)
        check_size(found, file, tuple(code["size"]), where)
        return decode(code, where), found

    def save(index: int, mask: np.ndarray, changed: int) -> None:
        prediction = refined[order[index]]
        prediction["segmentation"] = encode(mask)
        if "bbox" in prediction:
            prediction["bbox"] = _coder().toBbox(prediction["segmentation"]).tolist()

    result = refine_and_count(
        [tuple(predictions[number]["segmentation"]["size"]) for number in order],
        load,
        save,
        scale=scale,
        iterations=iterations,
        max_buckets=max_buckets,
        progress=progress,
    )
    write_coco(out, refined)
    return result


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
