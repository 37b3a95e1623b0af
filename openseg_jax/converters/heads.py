"""The module names of the original's heads: one table per named model, from module paths to names."""

import re
from typing import NamedTuple


class Naming(NamedTuple):
    """How the original names the modules of a head, and how these names identify it.

    Attributes:
        table: Maps regular expressions of module paths, in which a dot is a dot, to the original's names. A ConvNormAct
            or a stack of them has the name of its Sequential.
        signs: Modules that together none of the heads further down in HEADS has, by the original's names.
        widths: Maps "num_classes" and options of `models.create` to the module whose output channels they count.
    """

    table: dict[str, str]
    signs: tuple[str, ...]
    widths: dict[str, str]


def _inside(ours: str, theirs: str, block: dict[str, str]) -> dict[str, str]:
    """Names the modules of a block, given the names of the block itself."""
    return {f"{ours}.{module}": f"{theirs}.{name}" for module, name in block.items()}


_OBJECT_ATTENTION = {"query": "f_pixel", "key": "f_object", "value": "f_down", "project": "f_up"}
_SELF_ATTENTION = {"query": "f_query", "key": "f_key", "value": "f_value", "project": "W"}
_PYRAMID = {
    "local": "conv2",
    "atrous.0": "conv3",
    "atrous.1": "conv4",
    "atrous.2": "conv5",
    "fuse": "conv_bn_dropout",
}


def _object_context(theirs: str) -> dict[str, str]:
    attention = _inside("context.attend", f"{theirs}.object_context_block", _OBJECT_ATTENTION)
    return attention | {"context.fuse": f"{theirs}.conv_bn_dropout"}


_ASP_OBJECT_CONTEXT = {
    "context.pixels": "asp_ocr_head.context",
    **_inside("context.attend", "asp_ocr_head.context.2.object_context_block", _OBJECT_ATTENTION),
    **_inside("context", "asp_ocr_head", _PYRAMID),
}
# A dropout takes a place in the Sequential of a classifier.
_HRNET_CLASSIFIERS = {"classify": "cls_head", "aux.transform": "aux_head", "aux.classify": "aux_head.2"}
_OCNET_CLASSIFIERS = {"classify": "cls", "aux.transform": "dsn", "aux.classify": "dsn.2"}
_AUX_OF_RESNETS = {"aux.transform": "dsn_head", "aux.classify": "dsn_head.3"}
_FCN = {"out.transform": "cls_head", "out.classify": "cls_head.3"}
_OCNET = {
    "pixels": "oc_module_pre",
    **_inside(r"context.attend.(\d)", r"oc_module.stages.\1", _SELF_ATTENTION),
    "context.widen": "oc_module.up_dr",
    "context.fuse": "oc_module.conv_bn_dropout",
    **_OCNET_CLASSIFIERS,
}
_CE2P = {
    "edges.transforms.0": "edgelayer.conv1",
    "edges.transforms.1": "edgelayer.conv2",
    "edges.transforms.2": "edgelayer.conv3",
    "edges.detect": "edgelayer.conv4",
    "edges.fuse": "edgelayer.conv5",
    "decoder.context": "decoder.conv1",
    "decoder.detail": "decoder.conv2",
    "decoder.fuse": "decoder.conv3",
    "decoder.classify": "decoder.conv4",
    "fuse": "cls",
    "classify": "cls.2",
    "aux.transform": "dsn",
    "aux.classify": "dsn.3",
}

_CLASSES_AND_AUX = {"num_classes": "classify", "aux_channels": "aux.transform.conv"}
_OCR_WIDTHS = {"channels": "pixels.conv", "key_channels": "context.attend.query.0.conv", **_CLASSES_AND_AUX}
_ASP_WIDTHS = {"channels": "context.pixels.conv", "out_channels": "context.fuse.conv", **_CLASSES_AND_AUX}
_OCNET_WIDTHS = {"channels": "pixels.conv", "key_channels": "context.attend.0.key.0.conv", **_CLASSES_AND_AUX}
_CE2P_WIDTHS = {
    "edge_channels": "edges.transforms.0.conv",
    **_CLASSES_AND_AUX,
    "detail_channels": "decoder.detail.conv",
}

# HRNet models stand under their names without the width. Recognition tries the heads in this order.
HEADS: dict[str, Naming] = {
    "ce2p_asp_ocrnet": Naming(
        _CE2P | _ASP_OBJECT_CONTEXT,
        ("edgelayer.conv1.0", "asp_ocr_head.context.0"),
        {"channels": "context.fuse.conv", "key_channels": "context.pixels.conv", **_CE2P_WIDTHS},
    ),
    "ce2p_ocrnet": Naming(
        _CE2P | _object_context("spatial_ocr_head"),
        ("edgelayer.conv1.0", "spatial_ocr_head.conv_bn_dropout.0"),
        {"channels": "context.fuse.conv", "key_channels": "context.attend.query.0.conv", **_CE2P_WIDTHS},
    ),
    "hrnet_asp_ocr": Naming(
        _ASP_OBJECT_CONTEXT | _HRNET_CLASSIFIERS, ("asp_ocr_head.context.0", "aux_head.0"), _ASP_WIDTHS
    ),
    "spatial_asp_ocrnet": Naming(
        {**_ASP_OBJECT_CONTEXT, "classify": "head", **_AUX_OF_RESNETS},
        ("asp_ocr_head.context.0", "dsn_head.0"),
        _ASP_WIDTHS,
    ),
    "hrnet_ocr": Naming(
        {"pixels": "conv3x3", **_object_context("ocr_distri_head"), **_HRNET_CLASSIFIERS},
        ("ocr_distri_head.conv_bn_dropout.0",),
        _OCR_WIDTHS,
    ),
    "spatial_ocrnet": Naming(
        {"pixels": "conv_3x3", **_object_context("spatial_ocr_head"), "classify": "head", **_AUX_OF_RESNETS},
        ("spatial_ocr_head.conv_bn_dropout.0", "conv_3x3.0"),
        _OCR_WIDTHS,
    ),
    "isanet": Naming(
        {
            "pixels": "isa_head",
            **_inside(r"context.attend.(\d).(\w+_range)", r"isa_head.2.stages.\1.\2_sa", _SELF_ATTENTION),
            "context.widen": "isa_head.2.up_conv",
            "context.fuse": "isa_head.2.conv_bn",
            "classify": "cls_head",
            **_AUX_OF_RESNETS,
        },
        ("isa_head.0",),
        _OCNET_WIDTHS | {"key_channels": "context.attend.0.long_range.key.0.conv"},
    ),
    "pyramid_ocnet": Naming(_OCNET, ("oc_module_pre.0", "oc_module.up_dr.0"), _OCNET_WIDTHS),
    "base_ocnet": Naming(_OCNET, ("oc_module_pre.0",), _OCNET_WIDTHS),
    "asp_ocnet": Naming(
        {
            "pixels": "context",
            "context.pixels": "context.2.context",
            **_inside("context.attend", "context.2.context.2.stages.0", _SELF_ATTENTION),
            "context.context_norm": "context.2.context.2.conv_bn_dropout.0*",
            **_inside("context", "context.2", _PYRAMID),
            **_OCNET_CLASSIFIERS,
        },
        ("context.2.context.0",),
        {
            "channels": "pixels.conv",
            "width": "context.pixels.conv",
            "key_channels": "context.attend.key.0.conv",
            **_CLASSES_AND_AUX,
        },
    ),
    "segfix_hrnet": Naming(
        {
            "mask.transform": "mask_head",
            "mask.classify": "mask_head.2",
            "direction.transform": "dir_head",
            "direction.classify": "dir_head.2",
        },
        ("dir_head.0", "mask_head.0"),
        {"channels": "direction.transform.conv", "num_directions": "direction.classify"},
    ),
    "fcnet": Naming(
        _FCN | _AUX_OF_RESNETS,
        ("cls_head.0", "dsn_head.0"),
        {"num_classes": "out.classify", "channels": "out.transform.conv", "aux_channels": "aux.transform.conv"},
    ),
    "hrnet": Naming(_FCN, ("cls_head.0",), {"num_classes": "out.classify", "channels": "out.transform.conv"}),
}

# Nets that compute different functions with the same names.
_SAME_NAMES = {
    "hrnet_ocr_b": "hrnet_ocr",
    "ce2p_ideal_ocrnet": "ce2p_ocrnet",
    **{
        f"ideal_{name}": "spatial_ocrnet"
        for name in ("spatial_ocrnet", "spatial_ocrnet_b", "spatial_ocrnet_c", "gather_ocrnet", "distribute_ocrnet")
    },
}


def naming_of(model: str) -> Naming:
    """Returns the naming of a named model."""
    kind = re.sub(r"^hrnet_w\d+(_small_v\d)?", "hrnet", model)
    return HEADS[_SAME_NAMES.get(kind, kind)]


def their_name(table: dict[str, str], module: str) -> str:
    """Returns the original's name of a head's module, given its path without "head.".

    A name that ends in * is a norm with its activation: a Sequential of two layers, or a single inplace_abn.
    """
    for path, name in table.items():
        match = re.fullmatch(path.replace(".", r"\.") + r"(\.(?P<unit>\d))?(\.(?P<kind>conv|norm))?", module)
        if match:
            name, unit, kind = match.expand(name), match["unit"], match["kind"]
            place = 2 * int(unit or 0)  # each unit of a stack has two places in the Sequential
            if kind == "conv":
                return f"{name}.{place}"
            return f"{name}.{place + 1}*" if kind == "norm" else name
    raise KeyError(module)
