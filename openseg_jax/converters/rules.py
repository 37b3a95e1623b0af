"""Which entry of a PyTorch state dict each of our variables is.

Our modules have one name for one thing; the original has a different one in nearly every net. `backbones` and `heads`
map module paths of ours to theirs, and `leaves` turns that into one row per variable, which importing and exporting
both read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from openseg_jax import models
from openseg_jax.converters.backbones import FAMILIES
from openseg_jax.converters.heads import naming_of, their_name
from openseg_jax.models.segmentor import Segmentor


class Leaf(NamedTuple):
    """One variable of ours and its entry in the state dict."""

    collection: str  # "params" or "batch_stats"
    path: tuple[str, ...]
    key: str  # of the state dict
    shape: tuple[int, ...]  # in the state dict
    order: tuple[int, ...]  # of their axes, as ours: torch puts outputs first, we put them last
    counter: str | None  # the num_batches_tracked beside it, of a batch norm's mean

    def to_ours(self, value: np.ndarray) -> np.ndarray:
        return value.transpose(self.order)

    def to_theirs(self, value: np.ndarray) -> np.ndarray:
        return value.transpose(np.argsort(self.order))


_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_ORDERS = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}  # vectors, linear layers, convolutions


def leaves(model: Segmentor) -> Iterator[Leaf]:
    """Every variable of the model, with the key and shape it has in the original's state dict."""
    for collection, tree in models.shapes(model).items():
        for keys, declared in jax.tree_util.tree_leaves_with_path(tree):
            path = tuple(key.key for key in keys)
            leaf, order = path[-1], _ORDERS[len(declared.shape)]
            theirs = their_module(model, ".".join(path[:-1]))
            shape = tuple(declared.shape[axis] for axis in np.argsort(order))
            batch_norm = model.spec.norm[path[0] == "head"] == "batch_norm"
            counter = f"{theirs}.num_batches_tracked" if leaf == "mean" and batch_norm else None
            yield Leaf(collection, path, f"{theirs}.{_LEAVES[leaf]}", shape, order, counter)


def their_module(model: Segmentor, module: str) -> str:
    """The original's name of a module of ours that has variables of its own, both dotted."""
    name, activated = _translated(model, module)
    # Norm and activation in one: a Sequential of two, or a single inplace_abn layer.
    return name + (".0" if activated and model.spec.norm[module.startswith("head.")] != "inplace_abn" else "")


def layer_names(model: Segmentor) -> dict[str, str]:
    """Their module -> our path in `models.activations`, for all whose outputs can be compared."""
    result = {}
    for module in dict.fromkeys(".".join(leaf.path[:-1]) for leaf in leaves(model)):
        name, activated = _translated(model, module)
        if activated:
            result[name] = f"{module}.activate"
        result.setdefault(their_module(model, module), module)
    return result


def _translated(model: Segmentor, module: str) -> tuple[str, bool]:
    """Their name, and whether it is that of norm and activation in one."""
    if module.startswith("head."):
        theirs = their_name(naming_of(model.spec.name).table, module.removeprefix("head."))
    else:
        theirs = module
        for pattern, replacement in FAMILIES[type(model.backbone)]:
            theirs = re.sub(pattern, replacement, theirs)
    return theirs.removesuffix("*"), theirs.endswith("*")
