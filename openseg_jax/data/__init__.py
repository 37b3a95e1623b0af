"""Data: sources of samples, transforms, the training pipeline, the data check and the building of records."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openseg_jax.config import AugmentSettings, DataSettings
from openseg_jax.console import track
from openseg_jax.data.augmentation import Augmentation
from openseg_jax.data.cache import CachedSource
from openseg_jax.data.check import quick_check
from openseg_jax.data.folder import FolderSource
from openseg_jax.data.images import warn_once
from openseg_jax.data.records import RecordSource, is_record_root
from openseg_jax.data.sources import Mixture
from openseg_jax.data.synthetic import SYNTHETIC_CLASSES, SyntheticSource
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable, classes_beside, load_classes

__all__ = [
    "CachedSource",
    "ClassTable",
    "FolderSource",
    "Mixture",
    "RecordSource",
    "SyntheticSource",
    "check_before_training",
    "class_table",
    "is_record_root",
    "load_classes",
    "make_source",
    "make_train_source",
]

_LEAST_IMAGE = 0.1  # of a sample, on average


def class_table(settings: DataSettings) -> ClassTable:
    """Returns the classes of a data set: those of `settings.classes`, or else of a file ROOT/classes.*."""
    if settings.source == "synthetic":
        return SYNTHETIC_CLASSES
    if settings.classes:
        return load_classes(settings.classes)
    beside = classes_beside(Path(_root(settings)).expanduser())
    if beside is None:
        raise InputError(
            f"no class table: give --config.data.classes=NAME or FILE, or put a classes.yaml into {settings.root}"
        )
    return load_classes(str(beside))


def make_source(settings: DataSettings, split: str, classes: ClassTable | None = None, *, complete: bool = True):
    """Returns the source of the samples of a split.

    Args:
        split: The name of the split, for example "train" or "val".
        classes: The classes in an order of their own; by default those of `class_table`.
        complete: Whether it is an error if a folder has images without masks, or masks without images.
    """
    if settings.source == "synthetic":
        count = getattr(settings.synthetic, f"{split}_count")
        maps = {"maps": settings.maps, "offset_folder": settings.offset_folder}
        return SyntheticSource(split, count, settings.synthetic.size, **maps)
    return _open(settings, _root(settings), split, classes or class_table(settings), complete)


def make_train_source(settings: DataSettings):
    """Returns the source of the training split, mixed with what `settings.extra` adds to it."""
    first = make_source(settings, settings.train_split)
    if not settings.extra:
        return first
    others = []
    for extra in settings.extra:
        classes = load_classes(extra.classes) if extra.classes else first.classes
        others.append(_open(settings, extra.root or _root(settings), extra.split or settings.train_split, classes))
    boundaries = "offset" in settings.maps  # what is learnt is where classes end, not which they are
    return Mixture([first, *others], settings.weights or None, same_classes=not boundaries)


def check_before_training(settings: DataSettings, classes: ClassTable, augment: AugmentSettings) -> None:
    """Does the quick data check of a folder; records were checked when they were built. Warns if crops are padding.

    Raises:
        InputError: The check has found an error, or training and validation have the same data.
    """
    if not settings.check or settings.source != "folder":
        return
    if settings.train_split == settings.val_split:
        raise InputError(
            f"data.train_split and data.val_split are both {settings.val_split!r}, so the validation would be on "
            "images that the net knows by heart: give another split, or --config.data.check=False"
        )
    if not is_record_root(_root(settings)):
        folders = settings.image_folder, settings.label_folder
        splits = settings.train_split, settings.val_split
        report = quick_check(Path(settings.root), splits, classes, folders, settings.classes)
        _check_crop(augment, [s.image.size for s in report.scan.splits[settings.train_split]])


def _check_crop(settings: AugmentSettings, sizes: Sequence[tuple[int, int]]) -> None:
    """Warns if nearly all of each sample would be padding, which no loss looks at."""
    collate = settings.collate
    height, width = collate.size or settings.crop
    if collate.mode != "fix_size" or collate.align != "only_pad":  # samples are brought to the size, or to several
        return
    augmentation, rng = Augmentation(**vars(settings)), np.random.default_rng(0)
    areas = []
    for size in random.Random(0).choices(sizes, k=64):
        for step in augmentation.draw(size, rng):
            size = step.size_after(size)
        areas.append(min(size[0], height) * min(size[1], width))
    if (share := np.mean(areas) / (height * width)) < _LEAST_IMAGE:
        warn_once(
            "crop",
            f"images fill {share:.1%} of samples of {height}x{width} (augment.crop), and the rest is padding that no "
            "loss looks at: give --config.augment.crop about the size of the images",
        )


def _open(settings: DataSettings, root: str, split: str, classes: ClassTable, complete: bool = True):
    """Opens records, or a folder of images and masks, and caches it if the settings say so."""
    maps = {"maps": settings.maps, "offset_folder": settings.offset_folder}
    if is_record_root(root):
        source = RecordSource(root, split, classes, **maps)
    else:
        folders = {"image_folder": settings.image_folder, "label_folder": settings.label_folder}
        source = FolderSource(root, split, classes, **folders, complete=complete, **maps)
    if not settings.cache:
        return source
    folder = Path(settings.cache) / f"{Path(root).expanduser().resolve().name}-{split}"
    return CachedSource(source, folder, lambda items, count: track(items, f"decoding {split} into {folder}", count))


def _root(settings: DataSettings) -> str:
    if not settings.root:
        raise InputError(
            "this data set needs a folder: give --config.data.root=PATH, which holds SPLIT/image and SPLIT/label"
        )
    return settings.root
