"""Whole nets against the original: real .pth files, the real converter, the tolerances of the goldens."""

import jax
import numpy as np
import pytest

from openseg_jax import converters, models
from openseg_jax.losses import cross_entropy
from tests import commands, recipe
from tests.conftest import forget_programs
from tests.models import training_golden
from tests.models.parity import MODELS, TRAIN, compare, imported, padded_outputs

# One net of each family of backbones runs as one program, as users run it. The others run operation by operation, which
# takes half the time: the compiled operations of one net serve the next. Before a whole net is compiled they are
# forgotten, so that a process stays below 3 GB.
COMPILED = (
    "hrnet_w48_asp_ocr__hrnet48__torchbn",
    "base_ocnet__deepbase_resnet101_dilated8__torchbn",
    "fcnet__deepbase_resnest101_dilated8__torchbn",
    "fcnet__wide_resnet38_dilated8__torchbn",
)


@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_the_original(name):
    """All inputs of the golden, of two sizes, in one padded batch: each must come out as the original computed it."""
    if name in COMPILED:
        forget_programs()
    model, variables, manifest, arrays = imported(name)
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == manifest["num_params"]
    exported = set(converters.export_state_dict(variables, model))
    assert exported == {key for key, _, _ in manifest["keys"]}
    outputs = padded_outputs(model, variables, manifest, arrays, jit=name in COMPILED)
    errors = {tag: compare(manifest, arrays, tag, outputs[tag]) for tag in "AB"}
    assert max(max(of_tag.values()) for of_tag in errors.values()) <= 2e-4, errors


def test_logits_equal_the_original_without_padding():
    forget_programs()
    name = "hrnet_w48_ocr__hrnet48__inplace_abn"
    model, variables, manifest, arrays = imported(name)
    images = recipe.images(manifest["inputs"]["A"]["seed"], manifest["inputs"]["A"]["shape"])
    errors = compare(manifest, arrays, "A", jax.jit(lambda v, x: models.apply(model, v, x))(variables, images))
    assert max(errors.values()) <= 2e-4, errors


@pytest.mark.parametrize("name", TRAIN)
def test_training_step_equals_the_original(name):
    if "hrnet48" in name:  # close to 3 GB, beside what a process of many tests keeps
        commands.run("-m", "tests.models.training_golden", name)
    else:
        training_golden.check(name)


def test_training_step_in_float32():
    """The loss and the statistics in the precision that training has."""
    forget_programs()
    name = "TRAIN__hrnet_w48_ocr__hrnet48__torchbn"
    model, variables, manifest, arrays = imported(name)
    images = recipe.images(manifest["input"]["seed"], manifest["input"]["shape"])
    outputs, stats = jax.jit(lambda v, x: models.apply(model, v, x, train=True))(variables, images)
    parts = {key: cross_entropy(x, arrays["label"].astype(np.int32), ignore=-1) for key, x in outputs.items()}
    np.testing.assert_allclose(parts["out"] + 0.4 * parts["aux"], manifest["loss"], rtol=1e-5)
    found = converters.export_state_dict({"params": variables["params"], "batch_stats": stats}, model)
    for key in (key for key in arrays if key.startswith("bn.")):
        np.testing.assert_allclose(found[key.removeprefix("bn.")], arrays[key], atol=1e-5, err_msg=key)
