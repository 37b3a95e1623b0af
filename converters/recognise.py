"""Tells from the keys and shapes of a state dict which model it belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from openseg_jax.models.registry import BACKBONES, default_options
from openseg_jax.models.segmentor import ModelSpec


class Recognised(NamedTuple):
    """What a state dict holds; None where its keys do not tell."""

    name: str | None  # named model, or the backbone's name where there is no head
    backbone: str | None
    norm: tuple[str | None, str | None]  # of backbone and head
    num_classes: int | None
    options: dict[str, object]  # in which it differs from the named model

    def create_arguments(self) -> dict:
        """Keyword arguments for models.create."""
        backbone_norm, head_norm = self.norm
        norm = (backbone_norm or "batch_norm", head_norm or backbone_norm or "batch_norm")
        return {"name": self.name, "num_classes": self.num_classes, "norm": norm, **self.options}


def recognise(state_dict: Mapping) -> Recognised:
    """Reads keys (with or without "backbone." before them) and shapes; never raises on an unknown net."""
    shapes = {key: tuple(value.shape) for key, value in state_dict.items() if hasattr(value, "shape")}
    if not any(key.startswith("backbone.") for key in shapes):
        shapes = {f"backbone.{key}": shape for key, shape in shapes.items()}
    backbone, sizes = _hrnet(shapes)
    suffix, num_classes, head_sizes = _head(shapes)
    if backbone is None:
        return Recognised(None, None, _norms(shapes), num_classes, {})
    name = backbone.replace("hrnet", "hrnet_w") + (suffix or "")
    standard = default_options(name)
    options = {option: size for option, size in (sizes | head_sizes).items() if size != standard[option]}
    return Recognised(backbone if suffix is None else name, backbone, _norms(shapes), num_classes, options)


def _hrnet(shapes: dict) -> tuple[str | None, dict]:
    """The HRNet of the table that it is, or HRNet-W18 if it has other sizes than all of those, and its sizes."""
    first = shapes.get("backbone.stage2.0.branches.0.0.conv1.weight")
    layer1 = shapes.get("backbone.layer1.0.conv1.weight")
    if first is None or layer1 is None:
        return None, {}

    def count(pattern: str) -> int:
        return len({m.group(1) for key in shapes if (m := re.match(pattern, key))})

    sizes = {
        "width": first[0],
        "blocks": count(r"backbone\.stage2\.0\.branches\.0\.(\d+)\."),
        "modules": tuple(count(rf"backbone\.stage{stage}\.(\d+)\.") for stage in (2, 3, 4)),
        "layer1_blocks": count(r"backbone\.layer1\.(\d+)\."),
        "layer1_width": layer1[0],
    }
    backbone = "hrnet18"
    for name in BACKBONES:
        if all(default_options(name.replace("hrnet", "hrnet_w"))[option] == size for option, size in sizes.items()):
            backbone = name
    is_classifier = "backbone.classifier.weight" in shapes
    has_body = any(key.startswith("backbone.incre_modules.") for key in shapes)
    return backbone, sizes | {
        "full_res_stem": "backbone.conv2.weight" not in shapes,
        "keep_imagenet_head": has_body and not is_classifier,
    }


def _head(shapes: dict) -> tuple[str | None, int | None, dict]:
    """Suffix of the named model, classes, and sizes of the head."""

    def width(module: str) -> int | None:
        return shapes.get(f"{module}.weight", (None,))[0]

    if "asp_ocr_head.context.0.weight" in shapes:
        sizes = {
            "channels": width("asp_ocr_head.context.0"),
            "out_channels": width("asp_ocr_head.conv_bn_dropout.0"),
            "aux_channels": width("aux_head.0"),
        }
        return "_asp_ocr", width("cls_head"), sizes
    if "ocr_distri_head.conv_bn_dropout.0.weight" in shapes:
        sizes = {
            "channels": width("conv3x3.0"),
            "key_channels": width("ocr_distri_head.object_context_block.f_pixel.0"),
            "aux_channels": width("aux_head.0"),
        }
        joined = shapes["aux_head.0.weight"][1] if "aux_head.0.weight" in shapes else None
        if sizes == {"channels": 256, "key_channels": 128, "aux_channels": 256}:
            return "_ocr_b", width("cls_head"), sizes
        return "_ocr", width("cls_head"), sizes | ({"aux_channels": None} if sizes["aux_channels"] == joined else {})
    if "cls_head.0.weight" in shapes:
        channels = width("cls_head.0")
        joined = shapes["cls_head.0.weight"][1]
        return "", width("cls_head.3"), {"channels": None if channels == joined else channels}
    return None, None, {}


def _norms(shapes: dict) -> tuple[str | None, str | None]:
    """Of backbone and head. A batch norm counts its batches; in heads it is in a Sequential. An ABN does neither."""
    counted = {key.startswith("backbone.") for key in shapes if key.endswith(".num_batches_tracked")}
    in_head = [key for key in shapes if key.endswith(".running_mean") and not key.startswith("backbone.")]
    head = None
    if in_head:
        head = "batch_norm" if all(re.search(r"\.\d+\.0\.running_mean$", key) for key in in_head) else "inplace_abn"
    if True in counted:
        return "batch_norm", head
    if False in counted or head == "inplace_abn":  # something counts, but not the backbone; or nothing would
        return "inplace_abn", head
    return None, head  # no counters at all, as in files older than they are


def differences(found: Recognised, wanted: ModelSpec) -> list[str]:
    """In words, what the state dict says about itself and the model does not share."""
    result = []
    if found.num_classes and wanted.num_classes and found.num_classes != wanted.num_classes:
        result.append(f"it has {found.num_classes} classes, not {wanted.num_classes}")
    ours = _own_name(wanted)
    has_own_sizes = bool(found.options or wanted.options)  # then widths are not those of the name
    if found.name and _comparable(found.name, has_own_sizes) != _comparable(ours, has_own_sizes):
        result.append(f"it is {found.name}, not {ours}")
    return result + norm_differences(found, wanted)


def norm_differences(found: Recognised, wanted: ModelSpec) -> list[str]:
    parts = ("backbone", "head") if wanted.num_classes else ("backbone",)
    return [
        f"the norm of its {part} is {theirs}, not {ours}"
        for part, ours, theirs in zip(parts, wanted.norm, found.norm, strict=False)
        if theirs and ours != theirs
    ]


_HRNET_NAME = re.compile(r"hrnet_w\d+(_small_v\d)?")


def _own_name(spec: ModelSpec) -> str:
    """The named model of a spec whose backbone was exchanged: hrnet_w48_ocr on hrnet18 is hrnet_w18_ocr."""
    return _HRNET_NAME.sub(spec.backbone.replace("hrnet", "hrnet_w"), spec.name)


def _comparable(name: str, has_own_sizes: bool) -> str:
    return _HRNET_NAME.sub("hrnet", name) if has_own_sizes else name
