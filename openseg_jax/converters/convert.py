"""Strict import and export of state dicts, with every problem in one error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from openseg_jax.converters import rules
from openseg_jax.converters.backbones import CLASSIFIER, IMAGENET_BODY, with_backbone_prefix
from openseg_jax.converters.files import require_torch
from openseg_jax.converters.recognition import Recognised, differences, recognise, silent_differences
from openseg_jax.models.segmentor import Segmentor

if TYPE_CHECKING:
    import torch


class ConversionError(ValueError):
    """A state dict does not fit a model. The message is one sentence that names every kind of misfit."""


def import_state_dict(
    state_dict: Mapping[str, torch.Tensor | np.ndarray], model: Segmentor, found: Recognised | None = None
) -> dict:
    """Converts a state dict of openseg.pytorch to the variables of a model.

    Every variable must be in the state dict, in its shape, and every key must be used, except num_batches_tracked and
    the classifier of an ImageNet file. A bare backbone can also be read from a whole segmentation net, or from an
    ImageNet file, whose keys lack the prefix "backbone.". A checkpoint is never loaded in part.

    Args:
        state_dict: Floating-point tensors or arrays by key, with or without the prefix "module.".
        model: The model that receives the variables.
        found: What the source is known to be; by default it is recognised from the keys.

    Returns:
        {"params": ..., "batch_stats": ...}, nested dicts of float32 arrays.

    Raises:
        ConversionError: If the state dict and the model do not fit.
    """
    source = normalise_keys(state_dict)
    found = found or recognise(source)
    if model.head is None:
        source = {key: value for key, value in with_backbone_prefix(source).items() if key.startswith("backbone.")}
    variables = {}
    misfits, used = {"missing": [], "unknown": [], "of another shape": [], "unusable": []}, set()
    for leaf in rules.leaves(model):
        used |= {leaf.key, leaf.counter}
        if leaf.key not in source:
            misfits["missing"].append(leaf.key)
            continue
        value = _to_numpy(source[leaf.key])
        if value is None:
            misfits["unusable"].append(f"{leaf.key} is not a floating-point tensor")
        elif value.shape != leaf.shape:
            misfits["of another shape"].append(f"{leaf.key} is {value.shape} instead of {leaf.shape}")
        elif not np.isfinite(value).all():
            misfits["unusable"].append(f"{leaf.key} contains NaN or infinity")
        else:
            variables[leaf.collection, *leaf.path] = jnp.asarray(leaf.to_flax(value))
    misfits["unknown"] = [key for key in source if key not in used and not _ignored(key, model)]
    # Nets that compute different functions can have the same keys: an inplace_abn backbone has every key that a
    # batch_norm backbone needs, and no shape depends on the block sizes of ISA.
    if any(misfits.values()) or silent_differences(found, model.spec):
        raise ConversionError(_message(model, misfits, differences(found, model.spec)))
    return {"params": {}, "batch_stats": {}} | traverse_util.unflatten_dict(variables)


def export_state_dict(variables: dict, model: Segmentor) -> dict[str, torch.Tensor]:
    """Converts variables to a state dict that the original loads with strict=True.

    num_batches_tracked, which these nets do not use, is written as 0.

    Args:
        variables: {"params": ..., "batch_stats": ...} of the model.
        model: The model that the variables belong to.

    Returns:
        float32 tensors by the original's keys.

    Raises:
        ConversionError: If the variables do not fit the model.
        InputError: If PyTorch is not installed.
    """
    torch = require_torch()
    arrays, state_dict, problems = traverse_util.flatten_dict(variables), {}, []
    for leaf in rules.leaves(model):
        if (leaf.collection, *leaf.path) not in arrays:
            problems.append(f"{'.'.join(leaf.path)} is missing")
            continue
        value = np.asarray(arrays[leaf.collection, *leaf.path], np.float32)
        expected = leaf.to_flax(np.empty(leaf.shape, bool)).shape
        if value.shape != expected:
            problems.append(f"{'.'.join(leaf.path)} is {value.shape} instead of {expected}")
            continue
        state_dict[leaf.key] = torch.from_numpy(np.array(leaf.to_torch(value), order="C"))
        if leaf.counter:
            state_dict[leaf.counter] = torch.zeros((), dtype=torch.int64)
    if problems:
        raise ConversionError(f"the variables do not fit {model.spec.name}: {_listed(problems)}")
    return state_dict


def normalise_keys(state_dict: Mapping) -> dict:
    """Returns the same values by keys without the prefix "module.", which torch's parallel wrappers put before all."""
    wrapped = bool(state_dict) and all(str(key).startswith("module.") for key in state_dict)
    return {str(key).removeprefix("module.") if wrapped else str(key): value for key, value in state_dict.items()}


def _ignored(key: str, model: Segmentor) -> bool:
    if model.head is not None:
        return False
    has_body = getattr(model.backbone, "imagenet_head", None) is not None
    return bool(CLASSIFIER.match(key) or (not has_body and IMAGENET_BODY.match(key)))


def _to_numpy(value) -> np.ndarray | None:
    if hasattr(value, "is_floating_point"):  # a tensor, which exists only where torch does
        if not value.is_floating_point():
            return None
        value = value.detach().cpu().float().numpy()
    if not isinstance(value, np.ndarray) or not np.issubdtype(value.dtype, np.floating):
        return None
    return np.asarray(value, np.float32)


def _message(model: Segmentor, misfits: dict[str, list[str]], causes: list[str]) -> str:
    found = [
        f"{len(items)} {'key' if len(items) == 1 else 'keys'} {what} ({_listed(items)})"
        for what, items in misfits.items()
        if items
    ]
    message = f"the checkpoint does not fit {model.spec.name}: "
    if not found:
        return message + " and ".join(causes)
    return message + ", ".join(found) + (f"; likely cause: {' and '.join(causes)}" if causes else "")


def _listed(items: list[str], most: int = 3) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
