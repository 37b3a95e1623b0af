"""Data: class tables, sources of samples, transforms, and the pipelines that make batches of them."""

from __future__ import annotations

from pathlib import Path

from rich.progress import track

from openseg_jax.data.cache import CachedSource
from openseg_jax.data.check import quick_check
from openseg_jax.data.folder import FolderSource
from openseg_jax.data.mixture import Mixture
from openseg_jax.data.records import RecordSource, is_record_root
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


def class_table(config) -> ClassTable:
    """The classes of a data set. config: the `data` part of a config; without `classes`, a file ROOT/classes.*."""
    if config.source == "synthetic":
        return SYNTHETIC_CLASSES
    if config.classes:
        return load_classes(config.classes)
    beside = classes_beside(Path(_root(config)).expanduser())
    if beside is None:
        raise InputError(
            f"no class table: give --config.data.classes=NAME or FILE, or put a classes.yaml into {config.root}"
        )
    return load_classes(str(beside))


def make_source(config, split: str, *, complete: bool = True):
    """A source of samples. config: the `data` part of a config; split: such as "train" or "val".

    complete: whether it is an error if a folder has images without masks, or masks without images.
    """
    if config.source == "synthetic":
        count, size = config.synthetic[f"{split}_count"], tuple(config.synthetic.size)
        return SyntheticSource(split, count, size, **_maps(config))
    if config.source == "folder":
        return _open(config, _root(config), split, class_table(config), complete)
    raise InputError(f'data.source must be "folder" or "synthetic", found {config.source!r}')


def make_train_source(config):
    """The training split, and what `config.extra` adds to it."""
    first = make_source(config, config.train_split)
    if not config.extra:
        return first
    others = []
    for entry in config.extra:
        unknown = set(entry) - {"root", "split", "classes"}
        if unknown:
            raise InputError(f"data.extra has entries of root, split and classes, found {', '.join(sorted(unknown))}")
        classes = load_classes(entry["classes"]) if "classes" in entry else first.classes
        root, split = entry.get("root") or _root(config), entry.get("split", config.train_split)
        others.append(_open(config, root, split, classes))
    boundaries = "offset" in config.maps  # what is learnt is where classes end, not which they are
    return Mixture([first, *others], tuple(config.weights) or None, same_classes=not boundaries)


def check_before_training(config, classes: ClassTable) -> None:
    """The quick data check of a folder; records were checked when they were built. Raises InputError on a fault."""
    if config.check and config.source == "folder" and not is_record_root(_root(config)):
        folders = config.image_folder, config.label_folder
        quick_check(Path(config.root), [config.train_split, config.val_split], classes, folders)


def _open(config, root: str, split: str, classes: ClassTable, complete: bool = True):
    """Records that `python -m openseg_jax.data build` wrote, or a folder of images and masks; cached if asked for."""
    if is_record_root(root):
        source = RecordSource(root, split, classes, **_maps(config))
    else:
        folders = {"image_folder": config.image_folder, "label_folder": config.label_folder}
        source = FolderSource(root, split, classes, **folders, **_maps(config), complete=complete)
    if not config.cache:
        return source
    folder = Path(config.cache) / f"{Path(root).expanduser().resolve().name}-{split}"
    return CachedSource(source, folder, lambda items, count: track(items, f"decoding {split} into {folder}", count))


def _maps(config) -> dict:
    return {"maps": tuple(config.maps), "offset_folder": config.offset_folder}


def _root(config) -> str:
    if not config.root:
        raise InputError(
            "this data set needs a folder: give --config.data.root=PATH, holding SPLIT/image and SPLIT/label"
        )
    return config.root
