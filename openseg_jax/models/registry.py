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
_RESNEXT = {**_RESNETS["101"], "output_stride": 8, "groups": 32, "ceil_pool": False}
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
        f"{stem}resnet{depth}{suffix}": Part(ResNet, {**sizes, "deep_stem": bool(stem), "output_stride": stride})
        for stem in ("deepbase_", "")
        for depth, sizes in _RESNETS.items()
        for suffix, stride in _STRIDES.items()
    },
    **{f"resnext101_32x{n}d_dilated8": Part(ResNet, {**_RESNEXT, "group_width": n}) for n in (8, 16, 32, 48)},
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

_R101, _R101_16 = "deepbase_resnet101_dilated8", "deepbase_resnet101_dilated16"
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
    "spatial_ocrnet": Recipe(_R101, Part(OCRHead, {"aux_channels": 512, "aux_dropout": 0.05}), "OCR"),
    "spatial_asp_ocrnet": Recipe(_R101, Part(ASPOCRHead, {"aux_dropout": 0.1}), "OCR"),
    "ideal_spatial_ocrnet": Recipe(_R101, Part(IdealOCRHead, {}), "OCR"),
    "ideal_spatial_ocrnet_b": Recipe(_R101, Part(IdealOCRHead, {"background": "with"}), "OCR"),
    "ideal_spatial_ocrnet_c": Recipe(_R101, Part(IdealOCRHead, {"background": "only"}), "OCR"),
    "ideal_gather_ocrnet": Recipe(_R101, Part(IdealOCRHead, {"distributes": False}), "OCR"),
    "ideal_distribute_ocrnet": Recipe(_R101, Part(IdealOCRHead, {"gathers": False}), "OCR"),
    "ce2p_asp_ocrnet": Recipe(_R101_16, Part(CE2PHead, {}), "CE2P"),
    "ce2p_ocrnet": Recipe(_R101_16, Part(CE2PHead, {"object_context": "plain", "context_dropout": 0.0}), "CE2P"),
    "ce2p_ideal_ocrnet": Recipe(_R101_16, Part(CE2PHead, {"object_context": "ideal", "context_dropout": 0.0}), "CE2P"),
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
    if name in BACKBONES and backbone not in (None, name):
        raise ValueError(f"{name} is a backbone itself, backbone={backbone!r} cannot be given with it")
    recipe = _recipe(name)
    if recipe.head and recipe.head.build.needs_classes and (not isinstance(num_classes, int) or num_classes < 1):
        raise ValueError(f"num_classes must be a positive number for {name}, found {num_classes!r}")
    backbone = backbone or recipe.backbone
    known = default_options(name, backbone)
    norms = _norms(norm)
    if dtype not in ("float32", "bfloat16", "float16"):
        raise ValueError(f'dtype must be "float32", "bfloat16" or "float16", found {dtype!r}')
    for option in options:
        if option not in known:
            raise ValueError(
                f"unknown option {option!r} for {name} on {backbone}; known are {', '.join(sorted(known))}"
            )
    options = {key: as_tuples(value) for key, value in options.items()}

    def build(part: Part, *args):
        given = {key: value for key, value in options.items() if key in _options(part.build)}
        return part.build(*args, **part.options | given)

    spec = ModelSpec(name, num_classes, backbone, norms, dtype, tuple(sorted(options.items())))
    body = build(BACKBONES[backbone], NORMS[norms[0]])
    try:
        head = build(recipe.head, body.taps, num_classes, NORMS[norms[1]]) if recipe.head else None
    except ValueError as error:
        raise ValueError(f"{name} on {backbone}: {error}") from None
    return Segmentor(spec, body, head)


def as_tuples(value):
    """Turns nested lists, as JSON has them, into tuples."""
    return tuple(map(as_tuples, value)) if isinstance(value, (list, tuple)) else value


def default_options(name: str, backbone: str | None = None) -> dict[str, Any]:
    """Returns every option that `create` takes for a named model or a backbone, with its default."""
    recipe = _recipe(name)
    parts = (_lookup(BACKBONES, backbone or recipe.backbone, "backbone"), recipe.head)
    return {option: value for part in parts if part for option, value in (_options(part.build) | part.options).items()}


def _recipe(name: str) -> Recipe:
    return Recipe(name, head=None) if name in BACKBONES else _lookup(MODELS, name, "model")


def _options(build: Any) -> dict[str, Any]:
    """Returns the keyword-only parameters and their defaults."""
    parameters = inspect.signature(build.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _norms(norm) -> tuple[str, str]:
    if isinstance(norm, dict) and set(norm) == {"backbone", "head"}:
        norm = norm["backbone"], norm["head"]
    pair = (norm, norm) if isinstance(norm, str) else norm
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
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
