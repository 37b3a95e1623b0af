"""Padded evaluation equals unpadded evaluation, for every head, in one compiled program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openseg_jax import models
from tests import tiny

SIZES = np.array([[64, 96], [61, 45], [33, 90]])
OTHER_SIZES = np.array([[61, 45], [64, 95], [50, 33]])  # the first one is compiled alone already
CANVAS = (64, 96)


def padded(sizes, garbage=0.0):
    rng = np.random.default_rng(0)
    batch = np.full((len(sizes), *CANVAS, 3), garbage, np.float32)
    for row, (height, width) in zip(batch, sizes, strict=True):
        row[:height, :width] = rng.standard_normal((height, width, 3))
    return batch


MODELS = [
    *((name, None, "batch_norm") for name in tiny.HEADS),
    *(("fcnet", name, "batch_norm") for name in tiny.BACKBONES),
    ("hrnet_w48_ocr", None, "inplace_abn"),
    ("spatial_ocrnet", "wide_resnet38_dilated8", "inplace_abn"),
    ("isanet", "hrnet48", "batch_norm"),
]


@pytest.mark.parametrize(("name", "backbone", "norm"), MODELS)
def test_each_image_gets_the_logits_of_running_it_alone(name, backbone, norm):
    model = tiny.create(name, backbone=backbone, norm=norm)
    variables = tiny.random_variables(model)
    labels = tiny.labels_for(model, (len(SIZES), *CANVAS))
    run = jax.jit(
        lambda variables, images, sizes, labels: models.apply(model, variables, images, sizes=sizes, labels=labels)
    )
    alone = jax.jit(lambda variables, images, labels: models.apply(model, variables, images, labels=labels))

    for sizes, compared in ((SIZES, (0, 1, 2)), (OTHER_SIZES, (0,))):
        batch = padded(sizes, garbage=7.0)  # what lies beyond an image must not matter
        outputs = run(variables, batch, jnp.asarray(sizes), labels)
        for i in compared:
            height, width = sizes[i]
            own_labels = None if labels is None else labels[i : i + 1, :height, :width]
            single = alone(variables, batch[i : i + 1, :height, :width], own_labels)
            for key, logits in outputs.items():
                own = np.asarray(single[key][0])
                height, width = own.shape[:2]  # of SegFix, that of its tap
                difference = np.abs(logits[i, :height, :width] - own).max()
                assert difference <= 1e-4 * np.abs(own).max(), (key, height, width)
                assert not logits[i, height:].any()
                assert not logits[i, :, width:].any()
    assert run._cache_size() == 1, "the second set of sizes compiled again"
