"""Single blocks against the original's, in eval and in train mode, with both norms."""

import functools
import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from openseg_jax import models
from openseg_jax.converters import backbones, heads
from openseg_jax.models.backbones import hrnet, resnest, resnet, wide_resnet
from openseg_jax.models.backbones.blocks import Bottleneck, place_blocks
from openseg_jax.models.heads import ideal_ocr, isa, ocnet, ocr
from openseg_jax.models.layers import BatchNorm, FeatureMap, InplaceABN
from tests import recipe, tiny

UNITS, ARRAYS = recipe.load("UNIT")
NORMS = {"torchbn": BatchNorm, "inplace_abn": InplaceABN}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


class HalvedContext(nnx.Module):
    """The context branch of ASP-OC alone (the original's BaseOC_Context_Module)."""

    def __init__(self, norm):
        whole = ocnet.ASPOC(8, 8, norm, key_channels=4, dilations=(), dropout=0.0)
        self.attend, self.context_norm = whole.attend, whole.context_norm

    def __call__(self, x, *, train):
        return self.context_norm.activate(self.context_norm(self.attend(x, train=train), train=train))


def backbone(family):
    """Their name of a module of ours, by the substitutions of a backbone family."""

    def translate(path):
        path = f"block.{path}"
        for pattern, replacement in backbones.FAMILIES[family]:
            path = re.sub(pattern, replacement, path)
        return path.removeprefix("block.")

    return translate


def head(model, ours, theirs):
    """Their name of a module of ours that is called `ours` in the head of `model`, and theirs `theirs`."""
    return lambda path: heads.their_name(heads.naming_of(model).table, f"{ours}.{path}").removeprefix(f"{theirs}.")


def no_dropout(module, *inputs, train):
    return module(*inputs, train=train, rngs=None)


def augment(module, *inputs, train):
    return module.augment(*inputs, train=train, rngs=None)


def ideal(background="without", distributes=True):
    return lambda norm: ideal_ocr.IdealObjectContext(
        8, 4, 6, norm, background=background, distributes=distributes, dropout=0.0
    )


OCR = head("spatial_ocrnet", "context", "spatial_ocr_head")
OCNET, ISA = head("base_ocnet", "context", "oc_module"), head("isanet", "context", "isa_head.2")
PREACTIVATED, WIDE = wide_resnet.PreActivationBlock, backbone(wide_resnet.WideResNet)
RESNEST = backbone(resnest.ResNeSt)

# unit -> (our module, their names of its parts, how it is called)
CASES = {
    "ocr_scale1": (lambda norm: ocr.ObjectContext(8, 4, 6, norm, dropout=0.0), OCR, augment),
    "ocr_scale2": (lambda norm: ocr.ObjectContext(8, 4, 6, norm, dropout=0.0, pool=2), OCR, augment),
    "ocr_gt": (ideal(), OCR, augment),
    "ocr_gt_bg": (ideal("with"), OCR, augment),
    "ocr_gt_bg_nooc": (ideal("only"), OCR, augment),
    "ocr_gt_distribute": (ideal(), OCR, augment),
    "asp_ocr": (
        lambda norm: ocr.ASPObjectContext(8, 8, 6, norm, dilations=(2, 4, 6), dropout=0.0),
        head("spatial_asp_ocrnet", "context", "asp_ocr_head"),
        no_dropout,
    ),
    "base_oc": (lambda norm: ocnet.BaseOC(8, 4, 6, norm, pools=(1,), dropout=0.0), OCNET, no_dropout),
    "base_oc_s12": (lambda norm: ocnet.BaseOC(8, 4, 6, norm, pools=(1, 2), dropout=0.0), OCNET, no_dropout),
    "base_oc_context_s2": (HalvedContext, head("asp_ocnet", "context", "context.2.context.2"), None),
    "asp_oc": (
        lambda norm: ocnet.ASPOC(8, 4, norm, key_channels=2, dilations=(2, 4, 6), dropout=0.0),
        head("asp_ocnet", "context", "context.2"),
        no_dropout,
    ),
    "isa_3x4": (lambda norm: isa.ISAModule(8, 4, 6, 8, norm, factors=((3, 4),), dropout=0.0), ISA, no_dropout),
    "isa_multi": (lambda norm: isa.ISAModule(8, 4, 6, 8, norm, factors=((2, 2), (4, 3)), dropout=0.0), ISA, no_dropout),
    "hr_module3": (lambda norm: hrnet.ExchangeModule((4, 8, 16), 2, norm), backbone(hrnet.HRNet), None),
    "hr_module2_bottleneck": (
        lambda norm: hrnet.ExchangeModule((16, 32), 2, norm, Bottleneck), backbone(hrnet.HRNet2x), None,
    ),
    "splat_r2c1": (lambda norm: resnest.SplitAttention(8, norm), RESNEST, None),
    "splat_r2c2": (lambda norm: resnest.SplitAttention(8, norm, dilation=2, cardinality=2), RESNEST, None),
    "resnest_block_s2": (lambda norm: resnest.SplitBottleneck(8, 4, norm, stride=2), RESNEST, None),
    "resnest_block_s1_first": (
        lambda norm: resnest.SplitBottleneck(8, 4, norm, first_dilation=2, dilation=4), RESNEST, None,
    ),
    "resnext_block": (lambda norm: Bottleneck(16, 4, norm, groups=4), backbone(resnet.ResNet), None),
    "wide_block2": (lambda norm: PREACTIVATED(8, (6, 12), 2, 1, norm), WIDE, None),
    "wide_block2_id": (lambda norm: PREACTIVATED(8, (6, 8), 1, 2, norm), WIDE, None),
    "wide_block3": (lambda norm: PREACTIVATED(8, (4, 6, 12), 1, 4, norm), WIDE, None),
}  # fmt: skip


def inputs(unit):
    return [tiny.feature_map(recipe.images(i["seed"], i["shape"])) for i in UNITS[unit]["inputs"]]


def labels(unit, regions):
    """One-hot (N, h, w, regions) of the labels of a unit."""
    ids = ARRAYS[f"{unit}.label"].astype(np.float32)
    like = tiny.feature_map(np.zeros((*ids.shape[:1], *ids.shape[-2:], 1), np.float32))
    return ideal_ocr.label_regions(tiny.feature_map(ids.reshape(like.shape)), like, regions)


def values(module, unit, to_theirs, norm):
    """Our leaves, from the recipe's weights under the names that `to_theirs` gives a module path."""
    weights = recipe.state_dict(UNITS[unit]["keys"], {})
    result = {}
    for path in tiny.paths(module):
        ours, _, leaf = f".{path}".rpartition(".")
        theirs = to_theirs(ours.removeprefix(".")).replace("*", ".0" if norm == "torchbn" else "")
        value = weights.pop(f"{theirs}.{LEAVES[leaf]}".removeprefix(".")).numpy()
        result[path] = value.transpose(2, 3, 1, 0) if leaf == "kernel" else value
    assert all(key.endswith("num_batches_tracked") for key in weights), "weights are left over"
    return result


def check(unit, mode, outputs):
    for i, output in enumerate(outputs):
        expected = ARRAYS[f"{unit}.{mode}.{i}"].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(output, expected, atol=2e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", CASES)
def test_block_equals_the_original(name, norm, mode):
    unit = f"{name}__{norm}"
    build, to_theirs, call = CASES[name]
    module = build(NORMS[norm])
    arguments = inputs(unit)
    if name.startswith("hr_module"):
        arguments = [arguments]
    elif name.startswith("ocr_gt"):
        arguments.append(labels(unit, arguments[1].shape[1]))

    class Called(nnx.Module):
        def __init__(self):
            self.module = module

        def __call__(self, *inputs, train):
            return (call or type(module).__call__)(self.module, *inputs, train=train)

    leaves = {f"module.{path}": value for path, value in values(module, unit, to_theirs, norm).items()}
    outputs, _ = tiny.run_module(Called(), leaves, *arguments, train=mode == "train")
    outputs = outputs if isinstance(outputs, list) else [outputs[0] if isinstance(outputs, tuple) else outputs]
    check(unit, mode, [output.values for output in outputs])


@pytest.mark.parametrize("norm", NORMS)
def test_gather(norm):
    unit = f"spatial_gather__{norm}"
    check(unit, "eval", [ocr.gather(*inputs(unit)).values])
    pixels, _ = inputs(f"spatial_gather_gt__{norm}")
    unit = f"spatial_gather_gt__{norm}"
    check(unit, "eval", [ideal_ocr.gather_labelled(pixels, labels(unit, 6)).values])


@pytest.mark.parametrize("norm", NORMS)
def test_pyramid_gather(norm):
    unit = f"pyramid_gather__{norm}"
    check(unit, "eval", [ocr.pyramid_gather(*inputs(unit), (1, 2, 4)).values])


@pytest.mark.parametrize("gather", [ocr.gather, functools.partial(ocr.pyramid_gather, scales=(1, 2, 4))])
def test_gather_weighs_the_real_pixels_only(gather):
    rng = np.random.default_rng(0)
    pixels, logits = rng.standard_normal((2, 6, 7, 4)), rng.standard_normal((2, 6, 7, 3))
    extent = jnp.array([[6, 7], [4, 5]])
    batch = [FeatureMap(jnp.asarray(x, jnp.float32), extent).zero_outside() for x in (pixels, logits)]
    alone = [tiny.feature_map(x[1:, :4, :5].astype(np.float32)) for x in (pixels, logits)]
    np.testing.assert_allclose(gather(*batch).values[1], gather(*alone).values[0], atol=1e-6)


@pytest.mark.parametrize(
    ("stage", "output_stride", "multi_grid", "expected"),
    [
        (2, 8, None, [(2, 1, 1), (1, 1, 1), (1, 1, 1)]),
        (3, 8, None, [(1, 1, 2), (1, 2, 2), (1, 2, 2)]),
        (4, 8, None, [(1, 2, 4), (1, 4, 4), (1, 4, 4)]),
        (4, 8, (1, 1, 1), [(1, 2, 4), (1, 4, 4), (1, 4, 4)]),
        (4, 8, (1, 2, 4), [(1, 2, 4), (1, 8, 8), (1, 16, 16)]),
        (4, 8, (1, 1), [(1, 2, 4), (1, 4, 4), (1, 1, 1)]),
        (3, 16, (1, 2, 4), [(2, 1, 1), (1, 1, 1), (1, 1, 1)]),
        (4, 16, None, [(1, 1, 2), (1, 2, 2), (1, 2, 2)]),
        (4, 16, (1, 2, 4), [(1, 1, 2), (1, 4, 4), (1, 8, 8)]),
        (4, 32, (1, 2, 4), [(2, 1, 1), (1, 1, 1), (1, 1, 1)]),
    ],
)
def test_strides_become_dilations(stage, output_stride, multi_grid, expected):
    """Stride, dilation of the first 3x3 convolution and of the second, block by block."""
    assert place_blocks(stage, 3, output_stride, multi_grid) == expected


def test_a_multi_grid_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match=r"multi_grid \[1, 1, 1\] has more entries than the last stage blocks, 2"):
        place_blocks(4, 2, 8, (1, 1, 1))
    with pytest.raises(ValueError, match="output_stride must be 8, 16 or 32, found 4"):
        place_blocks(4, 2, 4, None)


@pytest.mark.parametrize("options", [{"bottleneck": False}, {"width": 8, "group_width": 4}])
def test_groups_need_channels(options):
    with pytest.raises(ValueError, match="groups are those of bottlenecks"):
        models.create("resnext101_32x8d_dilated8", **options)
