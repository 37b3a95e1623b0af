"""The mapping between the variables of a model and the entries of the original's state dict.

Modules here have one name for one thing; the original names the same thing differently in nearly every net.
`backbones` and `heads` map module paths to the original's names. `leaves` turns that into one row per variable, and
import and export both read these rows.
"""

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
    """One variable and its entry in the state dict."""

    collection: str  # "params" or "batch_stats"
    path: tuple[str, ...]
    key: str  # in the state dict
    shape: tuple[int, ...]  # in the state dict
    order: tuple[int, ...]  # the permutation of torch's axes: torch puts output channels first, Flax puts them last
    counter: str | None  # for the mean of a batch norm, the key of its num_batches_tracked

    def to_flax(self, value: np.ndarray) -> np.ndarray:
        return value.transpose(self.order)

    def to_torch(self, value: np.ndarray) -> np.ndarray:
        return value.transpose(np.argsort(self.order))


_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_ORDERS = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}  # vectors, linear layers, convolutions


def leaves(model: Segmentor) -> Iterator[Leaf]:
    """Yields every variable of the model with its key and shape in the original's state dict."""
    for collection, tree in models.shapes(model).items():
        for keys, declared in jax.tree_util.tree_leaves_with_path(tree):
            path = tuple(key.key for key in keys)
            leaf, order = path[-1], _ORDERS[len(declared.shape)]
            theirs = _their_module(model, ".".join(path[:-1]))
            shape = tuple(declared.shape[axis] for axis in np.argsort(order))
            batch_norm = model.spec.norm[path[0] == "head"] == "batch_norm"
            counter = f"{theirs}.num_batches_tracked" if leaf == "mean" and batch_norm else None
            yield Leaf(collection, path, f"{theirs}.{_LEAVES[leaf]}", shape, order, counter)


def _their_module(model: Segmentor, module: str) -> str:
    """Returns the original's dotted name of a module that has variables."""
    name, activated = _translated(model, module)
    # A norm with its activation is a Sequential of two layers, or a single inplace_abn layer.
    return f"{name}.0" if activated and model.spec.norm[module.startswith("head.")] != "inplace_abn" else name


def layer_names(model: Segmentor) -> dict[str, str]:
    """Maps the original's module names to paths in `models.activations`, for all layers that can be compared."""
    result = {}
    for module in dict.fromkeys(".".join(leaf.path[:-1]) for leaf in leaves(model)):
        name, activated = _translated(model, module)
        if activated:
            result[name] = f"{module}.activate"
        result.setdefault(_their_module(model, module), module)
    return result


def _translated(model: Segmentor, module: str) -> tuple[str, bool]:
    """Returns the original's name, and whether it names a norm together with its activation."""
    if module.startswith("head."):
        theirs = their_name(naming_of(model.spec.name).table, module.removeprefix("head."))
    else:
        theirs = module
        for pattern, replacement in FAMILIES[type(model.backbone)]:
            theirs = re.sub(pattern, replacement, theirs)
    return theirs.removesuffix("*"), theirs.endswith("*")
