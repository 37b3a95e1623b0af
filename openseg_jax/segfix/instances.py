"""Instance predictions in the files of Cityscapes and of COCO, as masks that refinement reads and writes.

Cityscapes: FOLDER/NAME_pred.txt has a line "mask.png label score" for each instance of image NAME. The PNG beside the
list is not 0 on the instance.

COCO: a JSON list of {"image_id", "category_id", "score", "segmentation": {"size", "counts"}}, masks as run-length
codes.

Both classes have a `path`, the folder or file; `sizes`, the (height, width) of each mask by its key; `images`, the keys
of the masks of each image that has any, by the image's name; and these methods:

    where(key)             the name of a mask in errors
    read(key)              a mask, uint8 (H, W), 1 on the instance
    write(out, key, mask)  takes a refined mask of the predictions in `out`; several threads may call it at once
    finish(out)            writes what lists the masks, after all of them
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from openseg_jax.data.images import read_mask, read_size, write_image
from openseg_jax.errors import InputError
from openseg_jax.files import read_json, read_text, write_bytes, write_text
from openseg_jax.results import child

LIST_SUFFIX = "_pred.txt"
_KEYS = {"image_id", "category_id", "score", "segmentation"}

# ---------------------------------------------------------------------------------------------------------------------
# Cityscapes


class Instance(NamedTuple):
    """An instance: its mask file, relative to the list, the id of its class on disk, and its confidence."""

    mask: str
    label: int
    score: float


class CityscapesInstances:
    """The instances of a folder of lists and masks, whose files are their keys. `out` is a folder, too."""

    def __init__(self, folder: str | os.PathLike):
        self.path, self._lists = Path(folder), read_cityscapes(folder)
        self.images = {name: [found.mask for found in listed] for name, listed in self._lists.items() if listed}
        self.sizes = {mask: read_size(child(self.path, mask)) for masks in self.images.values() for mask in masks}

    @property
    def results(self) -> list[str]:
        """The files of a refinement, in its folder."""
        return [*self.sizes, *(f"{name}{LIST_SUFFIX}" for name in self._lists)]

    def where(self, key: str) -> str:
        return str(self.path / key)

    def read(self, key: str) -> np.ndarray:
        return (read_mask(self.path / key) > 0).astype(np.uint8)

    def write(self, out: Path, key: str, mask: np.ndarray) -> None:
        write_image(child(out, key), (mask > 0).astype(np.uint8) * 255)

    def finish(self, out: Path) -> None:
        for name in self._lists:
            write_bytes(out / f"{name}{LIST_SUFFIX}", (self.path / f"{name}{LIST_SUFFIX}").read_bytes())


def read_cityscapes(folder: str | os.PathLike) -> dict[str, list[Instance]]:
    """Reads the instances, possibly none, of each image by its name from FOLDER/NAME_pred.txt.

    Raises:
        InputError: On lines of another form, and on masks that are missing, outside the folder, or named twice.
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


def _parsed(line: str, where: str) -> Instance:
    try:
        mask, label, score = line.split()
        if float(label).is_integer() and math.isfinite(float(score)):
            return Instance(mask, int(float(label)), float(score))
    except ValueError:
        pass
    raise InputError(f'{where} should be "mask.png label score", found {line.strip()!r}')


# ---------------------------------------------------------------------------------------------------------------------
# COCO


class CocoInstances:
    """The instances of a list of predictions, whose places are their keys.

    `out` is such a file, with compressed masks and the boxes of these. annotations: A COCO annotation file that names
    the images; without it, their names are their ids.
    """

    def __init__(self, path: str | os.PathLike, annotations: str | os.PathLike | None = None):
        self.path, self._predictions, self.images = Path(path), read_coco(path), {}
        names = None if annotations is None else read_image_names(annotations)
        for index, prediction in enumerate(self._predictions):
            image = prediction["image_id"]
            if names is not None and image not in names:
                raise InputError(f"{self.where(index)} is of the image {image}, which the list of images lacks")
            self.images.setdefault(str(image if names is None else names[image]), []).append(index)
        self.sizes = {i: tuple(found["segmentation"]["size"]) for i, found in enumerate(self._predictions)}
        self._refined = [dict(prediction) for prediction in self._predictions]
        self.results = [self.path.name]

    def where(self, key: int) -> str:
        return f"prediction {key} of {self.path}"

    def read(self, key: int) -> np.ndarray:
        return decode(self._predictions[key]["segmentation"], self.where(key))

    def write(self, out: Path, key: int, mask: np.ndarray) -> None:
        prediction = self._refined[key]
        prediction["segmentation"] = encode(mask)
        if "bbox" in prediction:
            prediction["bbox"] = _coder().toBbox(prediction["segmentation"]).tolist()

    def finish(self, out: Path) -> None:
        write_text(out, f"{json.dumps(self._refined)}\n")


def read_coco(path: str | os.PathLike) -> list[dict]:
    """Reads a list of predictions as it is on disk; `decode` decodes its masks.

    Raises:
        InputError: On entries without image_id, category_id, score, or a segmentation as a run-length code.
    """
    predictions = read_json(path)
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


def decode(segmentation: Mapping, where: str) -> np.ndarray:
    """Decodes a run-length code, compressed or not, to uint8 (H, W), 1 on the instance. Errors call it `where`."""
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
    """Returns the compressed run-length code of a mask, (H, W) and not 0 on the instance."""
    code = _coder().encode(np.asfortranarray(mask > 0, np.uint8))
    return {"size": list(code["size"]), "counts": code["counts"].decode("ascii")}


def read_image_names(path: str | os.PathLike) -> dict:
    """Reads the name, without suffix, of each image by its id from the "images" of a COCO annotation file."""
    content = read_json(path)
    try:
        return {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
    except (KeyError, TypeError) as error:
        raise InputError(f'{path} should hold a list "images" of objects with "id" and "file_name"') from error


def _coder():
    try:
        from pycocotools import mask
    except ImportError as error:
        raise InputError("run-length codes need pycocotools: pip install 'openseg_jax[instances]'") from error
    return mask


def _fits(counts: bytes | str, pixels: int) -> bool:
    """Returns whether a compressed run-length code is of at most so many pixels."""
    try:
        _coder().decode({"size": [pixels, 1], "counts": counts})
    except ValueError:
        return False
    return True
