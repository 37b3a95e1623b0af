"""Blocks of HRNet and OCR against the original's, in eval and in train mode, with both norms."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from converters import rules
from openseg_jax.models.backbones.hrnet import ExchangeModule
from openseg_jax.models.heads.ocr import ObjectAttention, gather
from openseg_jax.models.layers import BatchNorm, ConvNormAct, FeatureMap, InplaceABN, concat
from tests import recipe, tiny

UNITS, ARRAYS = recipe.load("UNIT")
NORMS = {"torchbn": BatchNorm, "inplace_abn": InplaceABN}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def inputs(unit):
    return [tiny.feature_map(recipe.images(i["seed"], i["shape"])) for i in UNITS[unit]["inputs"]]


def values(module, unit, to_theirs):
    """Our leaves, from the recipe's weights under the names that `to_theirs` gives a module path."""
    weights = recipe.state_dict(UNITS[unit]["keys"], {})
    result = {}
    for path in tiny.paths(module):
        ours, leaf = path.rsplit(".", 1)
        value = weights.pop(f"{to_theirs(ours)}.{LEAVES[leaf]}").numpy()
        result[path] = value.transpose(2, 3, 1, 0) if leaf == "kernel" else value
    assert all(key.endswith("num_batches_tracked") for key in weights), "weights are left over"
    return result


def check(unit, mode, outputs):
    for i, output in enumerate(outputs):
        expected = ARRAYS[f"{unit}.{mode}.{i}"].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(output, expected, atol=2e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("norm", NORMS)
def test_exchange_module(norm, mode):
    unit = f"hr_module3__{norm}"
    module = ExchangeModule((4, 8, 16), 2, NORMS[norm])

    def to_theirs(path):
        for pattern, replacement in rules.HRNET:
            path = re.sub(pattern, replacement, path)
        return path

    outputs, _ = tiny.run_module(module, values(module, unit, to_theirs), inputs(unit), train=mode == "train")
    check(unit, mode, [output.values for output in outputs])


@pytest.mark.parametrize("norm", NORMS)
def test_gather(norm):
    unit = f"spatial_gather__{norm}"
    pixels, logits = inputs(unit)
    regions = gather(pixels, logits).values  # (N, K, 1, C)
    check(unit, "eval", [regions.transpose(0, 1, 2, 3)])


class ObjectContext(nnx.Module):
    """Attention and fusion: the part of OCRHead that the original calls SpatialOCR_Module."""

    def __init__(self, norm):
        self.attend = ObjectAttention(8, 4, norm)
        self.fuse = ConvNormAct(16, 6, 1, norm, bias=True)

    def __call__(self, pixels, regions, *, train):
        return self.fuse(concat([self.attend(pixels, regions, train=train), pixels]), train=train)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("norm", NORMS)
def test_object_context(norm, mode):
    unit = f"ocr_scale1__{norm}"
    pixels, proxy = inputs(unit)  # the proxy is (N, C, K, 1) in torch's order
    module = ObjectContext(NORMS[norm])

    def to_theirs(path):
        theirs = rules.HRNET_OCR[f"head.{path}"].removeprefix("ocr_distri_head.")
        return theirs + ".0" * (norm == "torchbn" and path.endswith(".norm"))

    output, _ = tiny.run_module(module, values(module, unit, to_theirs), pixels, proxy, train=mode == "train")
    check(unit, mode, [output.values])


def test_gather_weighs_the_real_pixels_only():
    rng = np.random.default_rng(0)
    pixels, logits = rng.standard_normal((2, 6, 7, 4)), rng.standard_normal((2, 6, 7, 3))
    extent = jnp.array([[6, 7], [4, 5]])
    batch = [FeatureMap(jnp.asarray(x, jnp.float32), extent).zero_outside() for x in (pixels, logits)]
    alone = [tiny.feature_map(x[1:, :4, :5].astype(np.float32)) for x in (pixels, logits)]
    np.testing.assert_allclose(gather(*batch).values[1], gather(*alone).values[0], atol=1e-6)
