"""Data: class tables, sources of samples, transforms, and the pipelines that make batches of them."""

from __future__ import annotations

from openseg_jax.data.classes import ClassTable, load_classes
from openseg_jax.data.folder import FolderSource
from openseg_jax.data.synthetic import SYNTHETIC_CLASSES, SyntheticSource
from openseg_jax.errors import InputError

__all__ = ["ClassTable", "FolderSource", "SyntheticSource", "class_table", "load_classes", "make_source"]


def class_table(config) -> ClassTable:
    """The classes of a data set. config: the `data` part of a config."""
    return SYNTHETIC_CLASSES if config.source == "synthetic" else load_classes(config.classes)


def make_source(config, split: str):
    """A source of samples. config: the `data` part of a config; split: such as "train" or "val"."""
    if config.source == "synthetic":
        return SyntheticSource(split, config.synthetic[f"{split}_count"], tuple(config.synthetic.size))
    if config.source == "folder":
        if not config.root:
            raise InputError(
                "this data set needs a folder: give --config.data.root=PATH, holding SPLIT/image and SPLIT/label"
            )
        return FolderSource(config.root, split, class_table(config))
    raise InputError(f'data.source must be "folder" or "synthetic", found {config.source!r}')
