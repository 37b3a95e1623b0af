"""Recognises from the keys and shapes of a state dict which model it belongs to."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from openseg_jax.converters.backbones import with_backbone_prefix
from openseg_jax.converters.heads import HEADS, naming_of, their_name
from openseg_jax.models.backbones.hrnet import HRNet, HRNet2x
from openseg_jax.models.backbones.resnest import ResNeSt
from openseg_jax.models.backbones.resnet import ResNet
from openseg_jax.models.backbones.wide_resnet import WideResNet
from openseg_jax.models.registry import BACKBONES, MODELS, as_tuples, default_options
from openseg_jax.models.segmentor import ModelSpec

_MOST_BLOCKS = 200  # of a stage; ResNet-269 has 48
UNKNOWN_FACTORS = ((0, 0),)  # of ISA: the keys show how many pairs there are, and not their values


class Recognised(NamedTuple):
    """What a state dict holds. A field is None if the keys do not show it.

    Attributes:
        name: The named model, or the name of the backbone if there is no head.
        backbone: The name of the backbone.
        norm: The norms of backbone and head.
        num_classes: The number of classes.
        options: The options of `models.create` that differ from those of the named model.
        assumed: Options that change neither keys nor shapes, with the values that are assumed for them.
    """

    name: str | None
    backbone: str | None
    norm: tuple[str | None, str | None]
    num_classes: int | None
    options: dict[str, Any]
    assumed: dict[str, Any]

    def create_arguments(self) -> dict[str, Any]:
        """Returns the keyword arguments of `models.create` that make this model."""
        backbone_norm, head_norm = self.norm
        norm = (backbone_norm or "batch_norm", head_norm or backbone_norm or "batch_norm")
        arguments = {"name": self.name, "num_classes": self.num_classes, "norm": norm, **self.options}
        return arguments if self.name in BACKBONES else arguments | {"backbone": self.backbone}


def recognise(state_dict: Mapping, config: Mapping | None = None) -> Recognised:
    """Recognises a model by its keys and shapes. It never raises on an unknown net.

    Args:
        state_dict: Tensors or arrays by key, with or without the prefix "backbone.".
        config: The "config_dict" of a checkpoint of the original, which has what no shape shows.

    Returns:
        What was recognised; its name is None if the backbone is unknown.
    """
    shapes = {key: tuple(value.shape) for key, value in state_dict.items() if hasattr(value, "shape")}
    shapes = with_backbone_prefix(shapes)
    stated = (config or {}).get("network")
    stated = {key: value for key, value in stated.items() if _is_plain(value)} if isinstance(stated, Mapping) else {}
    stated = {key: as_tuples(value) for key, value in stated.items()}
    family, sizes = _backbone_sizes(shapes)
    kind, num_classes, widths = _head(shapes)
    if family is None:
        return Recognised(None, None, _norms(shapes), num_classes, {}, {})
    usual = MODELS[kind].backbone if kind in MODELS else None
    backbone = _matching_backbone(family, sizes, [stated.get("backbone"), usual])
    name = _model_name(kind, backbone, widths, stated.get("model_name"))
    known = default_options(name, backbone)
    shapeless = {"output_stride": "backbone", "multi_grid": "multi_grid", "factors": "factors"}  # -> key of the config
    found = {option: value for option, value in (sizes | widths).items() if value is not None}
    found |= {option: stated[option] for option in ("factors", "multi_grid") if option in known and stated.get(option)}
    options = {option: value for option, value in found.items() if value != known[option]}
    untold = [option for option, where in shapeless.items() if option in known and where not in stated]
    assumed = {option: found.get(option, known[option]) for option in untold}
    return Recognised(name, backbone, _norms(shapes), num_classes, options, assumed)


def _is_plain(value: object, depth: int = 3) -> bool:
    """Whether a value of a config is text, a number, or a list of such: what an option can be."""
    if isinstance(value, (list, tuple)):
        return depth > 0 and len(value) < 100 and all(_is_plain(item, depth - 1) for item in value)
    return isinstance(value, (str, int, float))


# ---------------------------------------------------------------------------------------------------------------------
# Backbones: each family has a function that reads its options off the shapes


def _backbone_sizes(shapes: dict) -> tuple[type | None, dict]:
    shapes = {key.removeprefix("backbone."): shape for key, shape in shapes.items() if key.startswith("backbone.")}
    for family, sign, read in (
        (HRNet2x, "transition0.0.0.weight", _hrnet2x),
        (HRNet, "stage2.0.branches.0.0.conv1.weight", _hrnet),
        (ResNet, "resinit.conv1.weight", _resnet),
        (ResNeSt, "conv1.0.weight", _resnest),
        (WideResNet, "mod1.conv1.weight", _wide_resnet),
    ):
        if sign in shapes:
            try:
                return family, read(shapes)
            except (KeyError, IndexError, ValueError, ZeroDivisionError):  # part of a backbone, or another net
                return None, {}
    return None, {}


def _count(shapes: dict, pattern: str) -> int:
    count = len({match.group(1) for key in shapes if (match := re.match(pattern, key))})
    if count > _MOST_BLOCKS:
        raise ValueError(f"{count} blocks")
    return count


def _counts(shapes: dict, stage: str, numbers: Iterable[int], block: str = "") -> tuple[int, ...]:
    """Returns how many blocks or modules each stage has."""
    return tuple(_count(shapes, rf"{stage}{number}\.{block}(\d+)\.") for number in numbers)


def _hrnet(shapes: dict) -> dict:
    return {
        "width": shapes["stage2.0.branches.0.0.conv1.weight"][0],
        "blocks": _count(shapes, r"stage2\.0\.branches\.0\.(\d+)\."),
        "modules": _counts(shapes, "stage", (2, 3, 4)),
        "layer1_blocks": _count(shapes, r"layer1\.(\d+)\."),
        "layer1_width": shapes["layer1.0.conv1.weight"][0],
        "full_res_stem": "conv2.weight" not in shapes,
        "keep_imagenet_head": "classifier.weight" not in shapes and _count(shapes, r"(incre_modules)\.") > 0,
    }


def _hrnet2x(shapes: dict) -> dict:
    return {
        "width": shapes["transition1.0.0.weight"][0],
        "blocks": _count(shapes, r"stage2\.0\.branches\.0\.(\d+)\."),
        "modules": _counts(shapes, "stage", (1, 2, 3, 4)),
        "stage1_width": shapes["stage1.0.branches.0.0.conv1.weight"][0],
    }


def _resnet(shapes: dict) -> dict:
    _, in_group, *_ = shapes["layer1.0.conv2.weight"]
    inner = shapes["layer1.0.conv1.weight"][0]
    bottleneck = "layer1.0.conv3.weight" in shapes
    sizes = {
        "blocks": _counts(shapes, "layer", (1, 2, 3, 4)),
        "bottleneck": bottleneck,
        "deep_stem": "resinit.conv2.weight" in shapes,
        "stem_width": shapes["resinit.conv1.weight"][0],
        "groups": inner // in_group,
        "width": shapes["layer1.0.conv3.weight"][0] // 4 if bottleneck else inner,
    }
    return sizes | ({"group_width": in_group * 64 // sizes["width"]} if sizes["groups"] > 1 else {})


def _resnest(shapes: dict) -> dict:
    return {
        "blocks": _counts(shapes, "layer", (1, 2, 3, 4)),
        "width": shapes["layer1.0.conv1.weight"][0],
        "stem_width": shapes["conv1.0.weight"][0],
    }


def _wide_resnet(shapes: dict) -> dict:
    return {"blocks": _counts(shapes, "mod", range(2, 8), "block"), "width": shapes["mod1.conv1.weight"][0]}


def _matching_backbone(family: type, sizes: dict, preferred: list) -> str:
    """Returns the first backbone of these sizes, preferred ones first, or the family's first if none fits."""
    candidates = [name for name, part in BACKBONES.items() if part.build is family]
    candidates = [name for name in preferred if name in candidates] + candidates
    return next((name for name in candidates if default_options(name).items() >= sizes.items()), candidates[0])


# ---------------------------------------------------------------------------------------------------------------------
# Heads


def _head(shapes: dict) -> tuple[str | None, int | None, dict]:
    """Returns the kind of head, the number of classes, and the options that its shapes show."""
    kind = next((k for k, n in HEADS.items() if all(f"{sign}.weight" in shapes for sign in n.signs)), None)
    if kind is None:
        return None, None, {}
    naming = HEADS[kind]

    def channels(module: str, axis: int = 0) -> int | None:
        """Returns the number of output (axis 0) or input (axis 1) channels of a convolution."""
        shape = shapes.get(f"{their_name(naming.table, module)}.weight", ())
        return shape[axis] if axis < len(shape) else None

    widths: dict[str, Any] = {option: channels(module) for option, module in naming.widths.items()}
    num_classes = widths.pop("num_classes", None)
    if kind == "isanet" and (pairs := _count(shapes, r"isa_head\.2\.stages\.(\d+)\.")) != 1:
        widths["factors"] = UNKNOWN_FACTORS * pairs
    tapped = {"hrnet": "channels", "hrnet_ocr": "aux_channels"}.get(kind)
    if tapped and widths[tapped] == channels(naming.widths[tapped], axis=1):
        widths[tapped] = None  # the default, which is the width of the tap
    if kind == "spatial_ocrnet" and widths["channels"]:
        is_b = channels("context.fuse.conv", axis=1) == 3 * widths["channels"]
        kind = "ideal_spatial_ocrnet_b" if is_b else kind
    return kind, num_classes, widths


def _model_name(kind: str | None, backbone: str, widths: dict, stated: object) -> str:
    if kind is None:
        return backbone
    if isinstance(stated, str) and stated in MODELS and naming_of(stated) is naming_of(kind):
        return stated
    if not kind.startswith("hrnet"):
        return kind
    if kind == "hrnet_ocr" and widths == {"channels": 256, "key_channels": 128, "aux_channels": 256}:
        kind += "_b"
    name = kind.replace("hrnet", backbone.replace("hrnet", "hrnet_w"))
    return name if name in MODELS else kind.replace("hrnet", "hrnet_w48")  # on a backbone other than HRNet


def _norms(shapes: dict) -> tuple[str | None, str | None]:
    """Returns the norms of backbone and head.

    A batch norm counts its batches, and stands in a Sequential with its activation. An inplace_abn does neither.
    """
    counted = {key.startswith("backbone.") for key in shapes if key.endswith(".num_batches_tracked")}
    in_head = [key for key in shapes if key.endswith(".running_mean") and not key.startswith("backbone.")]
    head = None
    if in_head:
        head = "batch_norm" if all(re.search(r"\.\d+\.0\.running_mean$", key) for key in in_head) else "inplace_abn"
    if "backbone.mod1.conv1.weight" in shapes:  # Wide-ResNets have norms with activations
        return "batch_norm" if "backbone.bn_out.0.weight" in shapes else "inplace_abn", head
    if True in counted:
        return "batch_norm", head
    if False in counted or head == "inplace_abn":  # batches are counted in the head only, or nowhere
        return "inplace_abn", head
    return None, head  # files that are older than the counters


# ---------------------------------------------------------------------------------------------------------------------
# Comparing


def differences(found: Recognised, wanted: ModelSpec) -> list[str]:
    """Describes in which ways a recognised state dict and a model differ, in one clause for each difference."""
    result = []
    if found.num_classes and wanted.num_classes and found.num_classes != wanted.num_classes:
        result.append(f"it has {found.num_classes} classes, not {wanted.num_classes}")
    wants_head, has_own_widths = wanted.name not in BACKBONES, bool(found.options or wanted.options)
    if wants_head and found.name and not same_keys(found.name, wanted.name):
        result.append(f"it is {found.name}, not {_own_name(wanted)}")
    elif wants_head and found.name and found.name.startswith("hrnet_w"):
        if found.name != _own_name(wanted) and not has_own_widths:
            result.append(f"it is {found.name}, not {_own_name(wanted)}")
    elif found.backbone and _without_stride(found.backbone) != _without_stride(wanted.backbone) and not has_own_widths:
        result.append(f"its backbone is {found.backbone}, not {wanted.backbone}")
    return result + silent_differences(found, wanted)


def silent_differences(found: Recognised, wanted: ModelSpec) -> list[str]:
    """Returns those of the differences that no key and no shape shows."""
    parts = ("backbone",) if wanted.name in BACKBONES else ("backbone", "head")
    result = [
        f"the norm of its {part} is {theirs}, not {ours}"
        for part, ours, theirs in zip(parts, wanted.norm, found.norm, strict=False)
        if theirs and ours != theirs
    ]
    if found.name is None or (wanted.name not in BACKBONES and not same_keys(found.name, wanted.name)):
        return result
    ours = default_options(wanted.name, wanted.backbone) | dict(wanted.options)
    theirs = default_options(found.name, found.backbone) | found.options
    for option in ("factors", "multi_grid", "output_stride"):
        if option not in ours or option not in theirs:
            continue
        differs = option not in found.assumed and theirs[option] != ours[option]
        if differs or (option == "factors" and len(theirs[option]) != len(ours[option])):
            known = (0, 0) not in (theirs[option] or ()) if option == "factors" else True
            what = f"{option} {_listed(theirs[option])}" if known else f"{len(theirs[option])} factor pairs"
            result.append(f"it is {found.name} with {what}, not {_listed(ours[option])}")
    return result


def _listed(value) -> str:
    """Writes tuples as lists, which they are in configs."""
    return str(value).replace("(", "[").replace(")", "]").replace(",]", "]")


def _without_stride(backbone: str) -> str:
    return re.sub(r"_dilated\d+$", "", backbone)


def _own_name(spec: ModelSpec) -> str:
    """Returns the named model that a specification with another backbone amounts to, such as hrnet_w18_ocr."""
    plain = spec.backbone.replace("hrnet", "hrnet_w")
    return re.sub(r"hrnet_w\d+(_small_v\d)?", plain, spec.name) if plain in MODELS else spec.name


def same_keys(a: str, b: str) -> bool:
    """Returns whether the state dicts of two models have the same keys and, except for widths, shapes."""
    if a in BACKBONES or b in BACKBONES:
        return a == b
    return naming_of(a) is naming_of(b) and (a == b or "ideal_spatial_ocrnet_b" not in (a, b))
