"""Import and export of state dicts: strict both ways, every problem in one error."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import torch

from openseg_jax.converters import rules
from openseg_jax.converters.backbones import CLASSIFIER, IMAGENET_BODY, with_backbone_prefix
from openseg_jax.converters.recognise import Recognised, differences, recognise, silent_differences
from openseg_jax.models.segmentor import Segmentor


class ConversionError(ValueError):
    """A state dict and a model do not fit; the message is one sentence and names every kind of misfit."""


def import_state_dict(
    state_dict: Mapping[str, torch.Tensor | np.ndarray], model: Segmentor, found: Recognised | None = None
) -> dict:
    """State dict of openseg.pytorch -> variables {"params": ..., "batch_stats": ...}, float32.

    Every key must be used or be one of: num_batches_tracked, and the classifier of an ImageNet file. Every variable
    must be found, in its shape. For a bare backbone, a whole segmentation net and an ImageNet file (whose keys lack
    the prefix "backbone.") are read too. Raises ConversionError otherwise; never loads a part.
    found: what is known of the source, recognised from its keys if not given.
    """
    source = normalise_keys(state_dict)
    found = found or recognise(source)
    if model.head is None:
        source = {key: value for key, value in with_backbone_prefix(source).items() if key.startswith("backbone.")}
    variables: dict = {"params": {}, "batch_stats": {}}
    missing, misshapen, invalid, used = [], [], [], set()
    for leaf in rules.leaves(model):
        used |= {leaf.key, leaf.counter}
        if leaf.key not in source:
            missing.append(leaf.key)
            continue
        value = _to_numpy(source[leaf.key])
        if value is None:
            invalid.append(f"{leaf.key} is no tensor of numbers")
        elif value.shape != leaf.shape:
            misshapen.append(f"{leaf.key} is {value.shape} instead of {leaf.shape}")
        elif not np.isfinite(value).all():
            invalid.append(f"{leaf.key} contains NaN or infinity")
        else:
            node = variables[leaf.collection]
            for key in leaf.path[:-1]:
                node = node.setdefault(key, {})
            node[leaf.path[-1]] = jnp.asarray(leaf.to_ours(value))
    unknown = [key for key in source if key not in used and not _ignored(key, model)]
    # Nets that compute different things can have the same keys: an inplace_abn backbone has all that a batch_norm
    # backbone needs, and the sizes of ISA's blocks are in no shape.
    if missing or misshapen or invalid or unknown or silent_differences(found, model.spec):
        raise ConversionError(_misfit(model, found, missing, unknown, misshapen, invalid))
    return variables


def export_state_dict(variables: Mapping, model: Segmentor) -> dict[str, torch.Tensor]:
    """Variables -> state dict with the original's key names, which loads there with strict=True.

    num_batches_tracked, which plays no part in these nets, is written as 0. Raises ConversionError if variables and
    model do not fit.
    """
    state_dict, problems = {}, []
    for leaf in rules.leaves(model):
        value = variables[leaf.collection]
        for key in leaf.path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None:
            problems.append(f"{'.'.join(leaf.path)} is missing")
            continue
        value = np.asarray(value, np.float32)
        expected = leaf.to_ours(np.empty(leaf.shape, bool)).shape
        if value.shape != expected:
            problems.append(f"{'.'.join(leaf.path)} is {value.shape} instead of {expected}")
            continue
        value = leaf.to_theirs(value)
        state_dict[leaf.key] = torch.from_numpy(np.array(value, order="C"))
        if leaf.counter:
            state_dict[leaf.counter] = torch.zeros((), dtype=torch.int64)
    if problems:
        raise ConversionError(f"the variables do not fit {model.spec.name}: {_listed(problems)}")
    return state_dict


def normalise_keys(state_dict: Mapping) -> dict:
    """Without the prefix that torch's parallel wrappers put before every key."""
    wrapped = bool(state_dict) and all(str(key).startswith("module.") for key in state_dict)
    return {str(key).removeprefix("module.") if wrapped else str(key): value for key, value in state_dict.items()}


def _ignored(key: str, model: Segmentor) -> bool:
    if CLASSIFIER.match(key):
        return model.head is None
    has_body = getattr(model.backbone, "imagenet_head", None) is not None
    return model.head is None and not has_body and bool(IMAGENET_BODY.match(key))


def _to_numpy(value) -> np.ndarray | None:
    if isinstance(value, torch.Tensor):
        if not value.is_floating_point():
            return None
        value = value.detach().to("cpu", torch.float32).numpy()
    if not isinstance(value, np.ndarray) or not np.issubdtype(value.dtype, np.floating):
        return None
    return np.asarray(value, np.float32)


def _misfit(model, source: Recognised, missing, unknown, misshapen, invalid) -> str:
    found = [
        f"{len(items)} {'key' if len(items) == 1 else 'keys'} {what} ({_listed(items)})"
        for what, items in {
            "missing": missing,
            "unknown": unknown,
            "of another shape": misshapen,
            "unusable": invalid,
        }.items()
        if items
    ]
    causes = differences(source, model.spec)
    message = f"the checkpoint does not fit {model.spec.name}: "
    if not found:
        return message + " and ".join(causes)
    return message + ", ".join(found) + (f"; likely cause: {' and '.join(causes)}" if causes else "")


def _listed(items: list[str], most: int = 3) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
