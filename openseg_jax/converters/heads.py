"""The module names of the original's heads: one table per named model, from patterns of module paths to names.

A name that ends in * is a norm with its activation: a Sequential of two layers, or a single inplace_abn.
"""

import re
from typing import NamedTuple


class Naming(NamedTuple):
    """How the original names the modules of a head, and how these names identify it.

    Attributes:
        table: Maps regular expressions of module paths to the original's names.
        signs: Modules that none of the heads further down in HEADS has.
        classes: The module whose output channels are the classes.
        widths: Maps options of `models.create` to the module whose output channels they count.
    """

    table: dict[str, str]
    signs: tuple[str, ...]
    classes: str | None
    widths: dict[str, str]


def _unit(ours: str, theirs: str, index: int = 0) -> dict[str, str]:
    """Names a ConvNormAct, which is two consecutive entries of a torch Sequential."""
    return {rf"{ours}\.conv": f"{theirs}.{index}", rf"{ours}\.norm": f"{theirs}.{index + 1}*"}


def _classifier(ours: str, theirs: str, *, dropout: bool) -> dict[str, str]:
    """Names a PixelClassifier; a dropout takes a place in the Sequential."""
    return _unit(rf"{ours}\.transform", theirs) | {rf"{ours}\.classify": f"{theirs}.{3 if dropout else 2}"}


def _object_attention(ours: str, theirs: str) -> dict[str, str]:
    block = f"{theirs}.object_context_block"
    return {
        **_unit(rf"{ours}\.query\.0", f"{block}.f_pixel", 0),
        **_unit(rf"{ours}\.query\.1", f"{block}.f_pixel", 2),
        **_unit(rf"{ours}\.key\.0", f"{block}.f_object", 0),
        **_unit(rf"{ours}\.key\.1", f"{block}.f_object", 2),
        **_unit(rf"{ours}\.value", f"{block}.f_down"),
        **_unit(rf"{ours}\.project", f"{block}.f_up"),
    }


def _self_attention(ours: str, theirs: str) -> dict[str, str]:
    return {
        **_unit(rf"{ours}\.key\.0", f"{theirs}.f_key", 0),
        **_unit(rf"{ours}\.key\.1", f"{theirs}.f_key", 2),
        **_unit(rf"{ours}\.query\.0", f"{theirs}.f_query", 0),
        **_unit(rf"{ours}\.query\.1", f"{theirs}.f_query", 2),
        rf"{ours}\.value": f"{theirs}.f_value",
        **_unit(rf"{ours}\.project", f"{theirs}.W"),  # with a norm
        rf"{ours}\.project": f"{theirs}.W",  # without
    }


def _object_context(ours: str, theirs: str) -> dict[str, str]:
    return _object_attention(rf"{ours}\.attend", theirs) | _unit(rf"{ours}\.fuse", f"{theirs}.conv_bn_dropout")


def _asp_object_context(ours: str, theirs: str) -> dict[str, str]:
    return {
        **_unit(rf"{ours}\.pixels", f"{theirs}.context"),
        **_object_attention(rf"{ours}\.attend", f"{theirs}.context.2"),
        **_pyramid(ours, theirs),
    }


def _pyramid(ours: str, theirs: str) -> dict[str, str]:
    """Names the branches beside the context, and their fusion."""
    return {
        **_unit(rf"{ours}\.local", f"{theirs}.conv2"),
        **_unit(rf"{ours}\.atrous\.0", f"{theirs}.conv3"),
        **_unit(rf"{ours}\.atrous\.1", f"{theirs}.conv4"),
        **_unit(rf"{ours}\.atrous\.2", f"{theirs}.conv5"),
        **_unit(rf"{ours}\.fuse", f"{theirs}.conv_bn_dropout"),
    }


_HRNET_OCR = {
    **_unit("pixels", "conv3x3"),
    **_object_context("context", "ocr_distri_head"),
    "classify": "cls_head",
    **_classifier("aux", "aux_head", dropout=False),
}
_SPATIAL_OCR = {
    **_unit("pixels", "conv_3x3"),
    **_object_context("context", "spatial_ocr_head"),
    "classify": "head",
    **_classifier("aux", "dsn_head", dropout=True),
}
_OCR_WIDTHS = {"channels": "conv3x3.0", "key_channels": "ocr_distri_head.object_context_block.f_pixel.0"}
_SPATIAL_WIDTHS = {
    "channels": "conv_3x3.0",
    "key_channels": "spatial_ocr_head.object_context_block.f_pixel.0",
    "aux_channels": "dsn_head.0",
}
_ASP_WIDTHS = {"channels": "asp_ocr_head.context.0", "out_channels": "asp_ocr_head.conv_bn_dropout.0"}
_OCNET = {
    **_unit("pixels", "oc_module_pre"),
    **_self_attention(r"context\.attend\.(\d)", r"oc_module.stages.\1"),
    **_unit(r"context\.widen", "oc_module.up_dr"),
    **_unit(r"context\.fuse", "oc_module.conv_bn_dropout"),
    "classify": "cls",
    **_classifier("aux", "dsn", dropout=False),
}
_OCNET_WIDTHS = {
    "channels": "oc_module_pre.0",
    "key_channels": "oc_module.stages.0.f_key.0",
    "aux_channels": "dsn.0",
}
_CE2P = {
    **_asp_object_context("context", "asp_ocr_head"),
    **_unit(r"edges\.transforms\.0", "edgelayer.conv1"),
    **_unit(r"edges\.transforms\.1", "edgelayer.conv2"),
    **_unit(r"edges\.transforms\.2", "edgelayer.conv3"),
    r"edges\.detect": "edgelayer.conv4",
    r"edges\.fuse": "edgelayer.conv5",
    **_unit(r"decoder\.context", "decoder.conv1"),
    **_unit(r"decoder\.detail", "decoder.conv2"),
    **_unit(r"decoder\.fuse\.0", "decoder.conv3", 0),
    **_unit(r"decoder\.fuse\.1", "decoder.conv3", 2),
    r"decoder\.classify": "decoder.conv4",
    **_unit("fuse", "cls"),
    "classify": "cls.2",
    **_classifier("aux", "dsn", dropout=True),
}
_CE2P_WIDTHS = {"edge_channels": "edgelayer.conv1.0", "aux_channels": "dsn.0", "detail_channels": "decoder.conv2.0"}

# HRNet models stand under their names without the width. Recognition tries the heads in this order.
HEADS: dict[str, Naming] = {
    "ce2p_asp_ocrnet": Naming(
        _CE2P,
        ("edgelayer.conv1.0", "asp_ocr_head.context.0"),
        "cls.2",
        {
            "channels": "asp_ocr_head.conv_bn_dropout.0",
            "key_channels": "asp_ocr_head.context.0",
            **_CE2P_WIDTHS,
        },
    ),
    "ce2p_ocrnet": Naming(
        {**_CE2P, **_object_context("context", "spatial_ocr_head")},
        ("edgelayer.conv1.0", "spatial_ocr_head.conv_bn_dropout.0"),
        "cls.2",
        {
            "channels": "spatial_ocr_head.conv_bn_dropout.0",
            "key_channels": "spatial_ocr_head.object_context_block.f_pixel.0",
            **_CE2P_WIDTHS,
        },
    ),
    "hrnet_asp_ocr": Naming(
        {
            **_asp_object_context("context", "asp_ocr_head"),
            "classify": "cls_head",
            **_classifier("aux", "aux_head", dropout=False),
        },
        ("asp_ocr_head.context.0", "aux_head.0"),
        "cls_head",
        {**_ASP_WIDTHS, "aux_channels": "aux_head.0"},
    ),
    "spatial_asp_ocrnet": Naming(
        {
            **_asp_object_context("context", "asp_ocr_head"),
            "classify": "head",
            **_classifier("aux", "dsn_head", dropout=True),
        },
        ("asp_ocr_head.context.0", "dsn_head.0"),
        "head",
        {**_ASP_WIDTHS, "aux_channels": "dsn_head.0"},
    ),
    "hrnet_ocr": Naming(
        _HRNET_OCR,
        ("ocr_distri_head.conv_bn_dropout.0",),
        "cls_head",
        {**_OCR_WIDTHS, "aux_channels": "aux_head.0"},
    ),
    "spatial_ocrnet": Naming(
        _SPATIAL_OCR, ("spatial_ocr_head.conv_bn_dropout.0", "conv_3x3.0"), "head", _SPATIAL_WIDTHS
    ),
    "isanet": Naming(
        {
            **_unit("pixels", "isa_head"),
            **_self_attention(r"context\.attend\.(\d)\.(\w+_range)", r"isa_head.2.stages.\1.\2_sa"),
            **_unit(r"context\.widen", "isa_head.2.up_conv"),
            **_unit(r"context\.fuse", "isa_head.2.conv_bn"),
            "classify": "cls_head",
            **_classifier("aux", "dsn_head", dropout=True),
        },
        ("isa_head.0",),
        "cls_head",
        {
            "channels": "isa_head.0",
            "key_channels": "isa_head.2.stages.0.long_range_sa.f_key.0",
            "aux_channels": "dsn_head.0",
        },
    ),
    "pyramid_ocnet": Naming(_OCNET, ("oc_module_pre.0", "oc_module.up_dr.0"), "cls", _OCNET_WIDTHS),
    "base_ocnet": Naming(_OCNET, ("oc_module_pre.0",), "cls", _OCNET_WIDTHS),
    "asp_ocnet": Naming(
        {
            **_unit("pixels", "context"),
            **_unit(r"context\.pixels", "context.2.context"),
            **_self_attention(r"context\.attend", "context.2.context.2.stages.0"),
            r"context\.context_norm": "context.2.context.2.conv_bn_dropout.0*",
            **_pyramid("context", "context.2"),
            "classify": "cls",
            **_classifier("aux", "dsn", dropout=False),
        },
        ("context.2.context.0",),
        "cls",
        {
            "channels": "context.0",
            "width": "context.2.context.0",
            "key_channels": "context.2.context.2.stages.0.f_key.0",
            "aux_channels": "dsn.0",
        },
    ),
    "segfix_hrnet": Naming(
        {
            **_unit(r"mask\.transform", "mask_head"),
            r"mask\.classify": "mask_head.2",
            **_unit(r"direction\.transform", "dir_head"),
            r"direction\.classify": "dir_head.2",
        },
        ("dir_head.0", "mask_head.0"),
        None,
        {"channels": "dir_head.0", "num_directions": "dir_head.2"},
    ),
    "fcnet": Naming(
        _classifier("out", "cls_head", dropout=True) | _classifier("aux", "dsn_head", dropout=True),
        ("cls_head.0", "dsn_head.0"),
        "cls_head.3",
        {"channels": "cls_head.0", "aux_channels": "dsn_head.0"},
    ),
    "hrnet": Naming(
        _classifier("out", "cls_head", dropout=True), ("cls_head.0",), "cls_head.3", {"channels": "cls_head.0"}
    ),
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
    """Returns the original's name of a head's module, given its path without "head."."""
    for pattern, template in table.items():
        match = re.fullmatch(pattern, module)
        if match:
            return match.expand(template)
    raise KeyError(module)
