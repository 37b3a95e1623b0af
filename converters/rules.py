"""Which entry of a PyTorch state dict each of our variables is: one table per backbone family and per head.

Our modules have one name for one thing; the original has a different one in nearly every net. The tables below map
module paths of ours to module paths of theirs, and `leaves` turns that into one row per variable, which importing
and exporting both read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import jax

from openseg_jax import models
from openseg_jax.models.segmentor import Segmentor

# ---------------------------------------------------------------------------------------------------------------------
# Backbones: substitutions on the module path, applied in order


def _fuse(match: re.Match) -> str:
    target, source, step = match.groups()
    # Upsampling paths are one Sequential, downsampling paths a Sequential of Sequentials.
    return f"fuse_layers.{target}.{source}" + ("" if int(source) > int(target) else f".{step}")


HRNET = [
    (r"transition(\d)\.paths\.\1", r"transition\1.\1.0"),  # a new branch is a Sequential in a Sequential
    (r"transition(\d)\.paths\.(\d)", r"transition\1.\2"),
    (r"fuse\.(\d)\.(\d)\.steps\.(\d)", _fuse),
    (r"imagenet_head\.widen\.(\d)", r"incre_modules.\1.0"),
    (r"imagenet_head\.down\.(\d)", r"downsamp_modules.\1"),
    (r"imagenet_head\.final", r"final_layer"),
    (r"\.conv$", r".0"),
    (r"\.norm$", r".1"),
    (r"\.norm(\d)$", r".bn\1"),
]

# ImageNet files end in a classifier; segmentation nets have its body only when asked for.
IMAGENET_CLASSIFIER = re.compile(r"backbone\.classifier\.")
IMAGENET_BODY = re.compile(r"backbone\.(incre_modules|downsamp_modules|final_layer)\.")

# ---------------------------------------------------------------------------------------------------------------------
# Heads: our module path -> theirs


def _unit(ours: str, theirs: str, index: int = 0) -> dict[str, str]:
    """A ConvNormAct of ours is two consecutive entries of a torch Sequential."""
    return {f"{ours}.conv": f"{theirs}.{index}", f"{ours}.norm": f"{theirs}.{index + 1}"}


def _classifier(ours: str, theirs: str, *, dropout: bool) -> dict[str, str]:
    """A PixelClassifier; a dropout takes a place in the Sequential."""
    return _unit(f"{ours}.transform", theirs) | {f"{ours}.classify": f"{theirs}.{3 if dropout else 2}"}


def _attention(ours: str, theirs: str) -> dict[str, str]:
    block = f"{theirs}.object_context_block"
    return {
        **_unit(f"{ours}.query.0", f"{block}.f_pixel", 0),
        **_unit(f"{ours}.query.1", f"{block}.f_pixel", 2),
        **_unit(f"{ours}.key.0", f"{block}.f_object", 0),
        **_unit(f"{ours}.key.1", f"{block}.f_object", 2),
        **_unit(f"{ours}.value", f"{block}.f_down"),
        **_unit(f"{ours}.project", f"{block}.f_up"),
    }


HRNET_FCN = _classifier("head.out", "cls_head", dropout=True)

HRNET_OCR = {
    **_unit("head.pixels", "conv3x3"),
    **_attention("head.attend", "ocr_distri_head"),
    **_unit("head.fuse", "ocr_distri_head.conv_bn_dropout"),
    "head.classify": "cls_head",
    **_classifier("head.aux", "aux_head", dropout=False),
}

HRNET_ASP_OCR = {
    **_unit("head.pixels", "asp_ocr_head.context"),
    **_attention("head.attend", "asp_ocr_head.context.2"),
    **_unit("head.local", "asp_ocr_head.conv2"),
    **_unit("head.atrous.0", "asp_ocr_head.conv3"),
    **_unit("head.atrous.1", "asp_ocr_head.conv4"),
    **_unit("head.atrous.2", "asp_ocr_head.conv5"),
    **_unit("head.fuse", "asp_ocr_head.conv_bn_dropout"),
    "head.classify": "cls_head",
    **_classifier("head.aux", "aux_head", dropout=False),
}


def head_table(name: str) -> dict[str, str]:
    """The table of a named model."""
    for suffix, table in {"_asp_ocr": HRNET_ASP_OCR, "_ocr_b": HRNET_OCR, "_ocr": HRNET_OCR}.items():
        if name.endswith(suffix):
            return table
    return HRNET_FCN


# ---------------------------------------------------------------------------------------------------------------------
# Rows


class Leaf(NamedTuple):
    """One variable of ours and its entry in the state dict."""

    collection: str  # "params" or "batch_stats"
    path: tuple[str, ...]
    key: str  # of the state dict
    shape: tuple[int, ...]  # in the state dict
    is_kernel: bool  # (h, w, in, out) here, (out, in, h, w) there
    counter: str | None  # the num_batches_tracked beside it, of a batch norm's mean


_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def leaves(model: Segmentor) -> Iterator[Leaf]:
    """Every variable of the model, with the key and shape it has in the original's state dict."""
    for collection, tree in models.shapes(model).items():
        for keys, declared in jax.tree_util.tree_leaves_with_path(tree):
            path = tuple(key.key for key in keys)
            module, leaf = ".".join(path[:-1]), path[-1]
            theirs = _their_module(model, module)
            shape = declared.shape
            if leaf == "kernel":
                shape = (shape[3], shape[2], shape[0], shape[1])
            batch_norm = model.spec.norm[module.startswith("head.")] == "batch_norm"
            counter = f"{theirs}.num_batches_tracked" if leaf == "mean" and batch_norm else None
            yield Leaf(collection, path, f"{theirs}.{_LEAVES[leaf]}", shape, leaf == "kernel", counter)


def _their_module(model: Segmentor, module: str) -> str:
    if module.startswith("backbone."):
        for pattern, replacement in HRNET:
            module = re.sub(pattern, replacement, module)
        return module
    theirs = head_table(model.spec.name)[module]
    # In heads, norm and activation are one unit: a Sequential of two, or a single inplace_abn layer.
    fused = model.spec.norm[1] == "inplace_abn"
    return f"{theirs}.0" if module.endswith(".norm") and not fused else theirs
