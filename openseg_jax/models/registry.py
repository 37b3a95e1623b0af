"""The tables of backbones and of named models, and `create`, which builds from them."""

import difflib
import inspect
from typing import Any, NamedTuple

from openseg_jax.models.backbones.hrnet import HRNet, HRNet2x
from openseg_jax.models.backbones.resnest import ResNeSt
from openseg_jax.models.backbones.resnet import ResNet
from openseg_jax.models.backbones.wide_resnet import WideResNet
from openseg_jax.models.heads.ce2p import CE2PHead
from openseg_jax.models.heads.fcn import FCNHead
from openseg_jax.models.heads.ideal_ocr import IdealOCRHead
from openseg_jax.models.heads.isa import ISAHead
from openseg_jax.models.heads.ocnet import ASPOCHead, BaseOCHead, PyramidOCHead
from openseg_jax.models.heads.ocr import ASPOCRHead, OCRHead
from openseg_jax.models.heads.segfix import SegFixHead
from openseg_jax.models.layers import NORMS
from openseg_jax.models.segmentor import ModelSpec, Segmentor


class Part(NamedTuple):
    """A class and the arguments that make a variant of it."""

    build: Any
    options: dict[str, Any]


class Recipe(NamedTuple):
    """A named model: its backbone, unless another is asked for, its head, and where it is described."""

    backbone: str
    head: Part | None
    paper: str = ""


# ---------------------------------------------------------------------------------------------------------------------
# Backbones. The strings are those of the original; W18-small are those of the HRNet classification code.

_SMALL = {"layer1_blocks": 1, "layer1_width": 32}
_RESNETS = {
    "18": {"blocks": (2, 2, 2, 2), "bottleneck": False},
    "34": {"blocks": (3, 4, 6, 3), "bottleneck": False},
    "50": {"blocks": (3, 4, 6, 3)},
    "101": {"blocks": (3, 4, 23, 3)},
    "152": {"blocks": (3, 8, 36, 3)},
}
_STRIDES = {"_dilated8": 8, "_dilated16": 16, "": 32}  # where keys do not tell, a checkpoint is taken for the first

BACKBONES: dict[str, Part] = {
    "hrnet18": Part(HRNet, {"width": 18}),
    "hrnet32": Part(HRNet, {"width": 32}),
    "hrnet48": Part(HRNet, {"width": 48}),
    "hrnet64": Part(HRNet, {"width": 64}),
    "hrnet18_small_v1": Part(HRNet, {"width": 16, "blocks": 2, "modules": (1, 1, 1), **_SMALL}),
    "hrnet18_small_v2": Part(HRNet, {"width": 18, "blocks": 2, "modules": (1, 3, 2), "layer1_blocks": 2}),
    "hrnet2x20": Part(HRNet2x, {"width": 20}),
    **{
        f"{stem}resnet{depth}{suffix}": Part(
            ResNet, {**variant, "deep_stem": stem == "deepbase_", "output_stride": stride}
        )
        for stem in ("deepbase_", "")
        for depth, variant in _RESNETS.items()
        for suffix, stride in _STRIDES.items()
    },
    **{
        f"resnext101_32x{width}d_dilated8": Part(
            ResNet,
            {**_RESNETS["101"], "output_stride": 8, "groups": 32, "group_width": width, "ceil_pool": False},
        )
        for width in (8, 16, 32, 48)
    },
    "wide_resnet16_dilated8": Part(WideResNet, {"blocks": (1, 1, 1, 1, 1, 1)}),
    "wide_resnet20_dilated8": Part(WideResNet, {"blocks": (1, 1, 1, 3, 1, 1)}),
    "wide_resnet38_dilated8": Part(WideResNet, {"blocks": (3, 3, 6, 3, 1, 1)}),
    "deepbase_resnest50_dilated8": Part(ResNeSt, {"blocks": (3, 4, 6, 3), "stem_width": 32}),
    "deepbase_resnest101_dilated8": Part(ResNeSt, {"blocks": (3, 4, 23, 3)}),
    "deepbase_resnest200_dilated8": Part(ResNeSt, {"blocks": (3, 24, 36, 3)}),
    "deepbase_resnest269_dilated8": Part(ResNeSt, {"blocks": (3, 30, 48, 8)}),
}

# ---------------------------------------------------------------------------------------------------------------------
# Named models: those of the original, and its HRNet models on every HRNet

_OCR = {"aux_channels": 512, "aux_dropout": 0.05}
_R101 = "deepbase_resnet101_dilated8"
_HRNET_HEADS: dict[str, tuple[Part, str]] = {
    "": (Part(FCNHead, {}), "HRNet"),
    "_ocr": (Part(OCRHead, {"channels": 512, "key_channels": 256}), "OCR"),
    "_ocr_b": (Part(OCRHead, {"channels": 256, "key_channels": 128, "aux_channels": 256}), "OCR"),
    "_asp_ocr": (Part(ASPOCRHead, {"dilations": (24, 48, 72), "classifier_bias": False}), "OCR"),
}

MODELS: dict[str, Recipe] = {
    **{
        backbone.replace("hrnet", "hrnet_w") + suffix: Recipe(backbone, head, paper)
        for backbone, part in BACKBONES.items()
        if part.build is HRNet
        for suffix, (head, paper) in _HRNET_HEADS.items()
    },
    "fcnet": Recipe(_R101, Part(FCNHead, {"channels": 512, "aux_channels": 512}), "FCN"),
    "base_ocnet": Recipe(_R101, Part(BaseOCHead, {}), "OCNet"),
    "pyramid_ocnet": Recipe(_R101, Part(PyramidOCHead, {}), "OCNet"),
    "asp_ocnet": Recipe(_R101, Part(ASPOCHead, {}), "OCNet"),
    "isanet": Recipe(_R101, Part(ISAHead, {}), "ISA"),
    "spatial_ocrnet": Recipe(_R101, Part(OCRHead, _OCR), "OCR"),
    "spatial_asp_ocrnet": Recipe(_R101, Part(ASPOCRHead, {"aux_dropout": 0.1}), "OCR"),
    "ideal_spatial_ocrnet": Recipe(_R101, Part(IdealOCRHead, {}), "OCR"),
    "ideal_spatial_ocrnet_b": Recipe(_R101, Part(IdealOCRHead, {"background": "with"}), "OCR"),
    "ideal_spatial_ocrnet_c": Recipe(_R101, Part(IdealOCRHead, {"background": "only"}), "OCR"),
    "ideal_gather_ocrnet": Recipe(_R101, Part(IdealOCRHead, {"distributes": False}), "OCR"),
    "ideal_distribute_ocrnet": Recipe(_R101, Part(IdealOCRHead, {"gathers": False}), "OCR"),
    **{
        name: Recipe("deepbase_resnet101_dilated16", Part(CE2PHead, options), "CE2P")
        for name, options in {
            "ce2p_asp_ocrnet": {},
            "ce2p_ocrnet": {"object_context": "plain", "context_dropout": 0.0},
            "ce2p_ideal_ocrnet": {"object_context": "ideal", "context_dropout": 0.0},
        }.items()
    },
    "segfix_hrnet": Recipe("hrnet48", Part(SegFixHead, {}), "SegFix"),
}

_NORM_ALIASES = {"torchbn": "batch_norm", "torchsyncbn": "batch_norm", "syncbn": "batch_norm"}


def create(
    name: str,
    num_classes: int | None = None,
    *,
    backbone: str | None = None,
    norm: str | tuple[str, str] | dict[str, str] = "batch_norm",
    dtype: str = "float32",
    **options,
) -> Segmentor:
    """Describes a model. Nothing is allocated: `init` or a checkpoint import makes the variables.

    Args:
        name: A named model (MODELS), or a backbone (BACKBONES), which then returns its taps.
        num_classes: K, the channels of the logits.
        backbone: The backbone, in place of the named model's own.
        norm: "batch_norm", "inplace_abn" or "group_norm", for the whole net or one each as (backbone, head).
        dtype: The dtype of the computation: "float32", "bfloat16" or "float16". Parameters, statistics and logits are
            float32.
        **options: Any keyword argument of the backbone's or of the head's class.

    Returns:
        The model, for `init` and `apply`.

    Raises:
        ValueError: Something is unknown or does not fit; the message says what was found and what is possible.
    """
    if name in BACKBONES:
        if backbone not in (None, name):
            raise ValueError(f"{name} is a backbone itself, backbone={backbone!r} cannot be given with it")
        recipe = Recipe(name, head=None)
    else:
        recipe = _lookup(MODELS, name, "model")
        needs_classes = recipe.head.build.needs_classes
        if needs_classes and (not isinstance(num_classes, int) or num_classes < 1):
            raise ValueError(f"num_classes must be a positive number for {name}, found {num_classes!r}")
    backbone = backbone or recipe.backbone
    part = _lookup(BACKBONES, backbone, "backbone")
    norms = _norms(norm)
    if dtype not in ("float32", "bfloat16", "float16"):
        raise ValueError(f'dtype must be "float32", "bfloat16" or "float16", found {dtype!r}')

    takes = {kind: set(_options(p.build)) for kind, p in {"backbone": part, "head": recipe.head}.items() if p}
    unknown = [option for option in options if not any(option in names for names in takes.values())]
    if unknown:
        known = sorted(set().union(*takes.values()))
        raise ValueError(f"unknown option {unknown[0]!r} for {name} on {backbone}; known are {', '.join(known)}")
    options = {key: as_tuples(value) for key, value in options.items()}

    def build(kind: str, part: Part, *args):
        chosen = part.options | {key: value for key, value in options.items() if key in takes[kind]}
        return part.build(*args, **chosen)

    spec = ModelSpec(name, num_classes, backbone, norms, dtype, tuple(sorted(options.items())))
    body = build("backbone", part, NORMS[norms[0]])
    try:
        head = build("head", recipe.head, body.taps, num_classes, NORMS[norms[1]]) if recipe.head else None
    except ValueError as error:
        raise ValueError(f"{name} on {backbone}: {error}") from None
    return Segmentor(spec, body, head)


def as_tuples(value):
    """Turns nested lists, as JSON has them, into tuples."""
    return tuple(map(as_tuples, value)) if isinstance(value, (list, tuple)) else value


def default_options(name: str, backbone: str | None = None) -> dict[str, Any]:
    """Returns every option that `create` takes for a named model or a backbone, with its default."""
    recipe = Recipe(name, head=None) if name in BACKBONES else _lookup(MODELS, name, "model")
    parts = (_lookup(BACKBONES, backbone or recipe.backbone, "backbone"), recipe.head)
    return {option: value for part in parts if part for option, value in (_options(part.build) | part.options).items()}


def _options(build: Any) -> dict[str, Any]:
    """Returns the keyword-only parameters and their defaults."""
    parameters = inspect.signature(build.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _norms(norm) -> tuple[str, str]:
    if isinstance(norm, str):
        pair = (norm, norm)
    elif isinstance(norm, dict) and set(norm) == {"backbone", "head"}:
        pair = (norm["backbone"], norm["head"])
    elif isinstance(norm, (tuple, list)) and len(norm) == 2:
        pair = tuple(norm)
    else:
        raise ValueError(f"norm must be a name or one each for backbone and head, found {norm!r}")
    pair = tuple(_NORM_ALIASES.get(n, n) for n in pair)
    for n in pair:
        _lookup(NORMS, n, "norm")
    return pair


def _lookup(table: dict, name: str, what: str):
    if name in table:
        return table[name]
    close = difflib.get_close_matches(str(name), table, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(table)}"
    raise ValueError(f"unknown {what} {name!r}; {hint}")
