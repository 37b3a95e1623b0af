"""Padded evaluation equals unpadded evaluation, for every head, in one compiled program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openseg_jax import models
from tests import tiny

SIZES = np.array([[64, 96], [61, 45], [33, 90]])
OTHER_SIZES = np.array([[40, 41], [64, 95], [50, 33]])
CANVAS = (64, 96)


def padded(sizes, garbage=0.0):
    rng = np.random.default_rng(0)
    batch = np.full((len(sizes), *CANVAS, 3), garbage, np.float32)
    for row, (height, width) in zip(batch, sizes, strict=True):
        row[:height, :width] = rng.standard_normal((height, width, 3))
    return batch


@pytest.mark.parametrize(
    ("suffix", "norm"), [*((suffix, "batch_norm") for suffix in tiny.HEADS), ("_ocr", "inplace_abn")]
)
def test_each_image_gets_the_logits_of_running_it_alone(suffix, norm):
    model = tiny.create(suffix, norm=norm)
    variables = tiny.random_variables(model)
    run = jax.jit(lambda variables, images, sizes: models.apply(model, variables, images, sizes=sizes))
    alone = jax.jit(lambda variables, images: models.apply(model, variables, images))

    for sizes, compared in ((SIZES, (0, 1, 2)), (OTHER_SIZES, (0,))):
        batch = padded(sizes, garbage=7.0)  # what lies beyond an image must not matter
        outputs = run(variables, batch, jnp.asarray(sizes))
        for i in compared:
            height, width = sizes[i]
            single = alone(variables, batch[i : i + 1, :height, :width])
            for name, logits in outputs.items():
                largest = np.abs(single[name]).max()
                difference = np.abs(logits[i, :height, :width] - single[name][0]).max()
                assert difference <= 1e-4 * largest, (name, height, width)
                assert not logits[i, height:].any()
                assert not logits[i, :, width:].any()
    assert run._cache_size() == 1, "the second set of sizes compiled again"
