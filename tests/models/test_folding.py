"""Batch norms folded into convolutions, which is how nets are evaluated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openseg_jax import models
from tests import tiny

NETS = {"hrnet_w48_ocr": None, "spatial_ocrnet": "wide_resnet38_dilated8", "isanet": None}


@pytest.mark.parametrize("name", NETS)
def test_a_folded_net_is_the_same_net(name):
    model = tiny.create(name, backbone=NETS[name])
    variables = tiny.random_variables(model)
    images = np.random.default_rng(1).standard_normal((2, 33, 48, 3)).astype(np.float32)
    folded = jax.jit(lambda variables: models.folded(model, variables))(variables)
    once, each = (models.apply(model, given, images, upsample=False)["out"] for given in (folded, variables))
    plain = models.activations(model, variables, images)
    np.testing.assert_allclose(once, each, atol=1e-6 * np.abs(each).max())
    (path,) = (path for path in plain if path.endswith("classify") and path.count(".") == 1)
    np.testing.assert_allclose(each, plain[path], atol=1e-5 * np.abs(each).max())


def test_kernels_are_rounded_behind_the_norm():
    """In bfloat16 both forms are about as far from float32."""
    variables = tiny.random_variables(tiny.create("hrnet_w48_ocr"))
    images = np.random.default_rng(1).standard_normal((2, 32, 48, 3)).astype(np.float32)
    wide = models.apply(tiny.create("hrnet_w48_ocr"), variables, images, upsample=False)["out"]
    model = tiny.create("hrnet_w48_ocr", dtype="bfloat16")
    (kernel, bias), *_ = models.folded(model, variables)["folded"]
    assert kernel.dtype == bias.dtype == jnp.bfloat16
    folded = models.apply(model, variables, images, upsample=False)["out"]
    plain = models.activations(model, variables, images)["head.classify"].astype(np.float32)
    errors = [np.sqrt(np.mean((x - wide) ** 2)) for x in (folded, plain)]
    assert errors[0] < 1.5 * errors[1]
