"""Creating and describing models, and what happens when it cannot work."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openseg_jax import models
from openseg_jax.models.segmentor import ModelSpec
from tests import tiny


def count(model) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(models.shapes(model)["params"]))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("hrnet_w48", 70_006_560), ("hrnet_w48_ocr", 74_522_182),
        ("hrnet_w48_ocr_b", 68_952_550), ("hrnet_w48_asp_ocr", 75_977_664),
    ],
)  # fmt: skip
def test_parameter_counts_of_the_original(name, parameters):
    assert count(models.create(name, 19)) == parameters


@pytest.mark.parametrize(
    ("backbone", "parameters"),
    [("hrnet18", 9_562_260), ("hrnet32", 29_305_536), ("hrnet48", 65_325_120), ("hrnet64", 115_697_600)],
)
def test_parameter_counts_of_backbones(backbone, parameters):
    assert count(models.create(backbone)) == parameters


@pytest.mark.parametrize(
    ("backbone", "parameters"), [("hrnet18_small_v1", 13_187_464), ("hrnet18_small_v2", 15_597_464)]
)
def test_small_hrnets_are_those_of_the_classification_code(backbone, parameters):
    """Published counts, which include the linear classifier of 2048 x 1000 weights and 1000 biases."""
    assert count(models.create(backbone, keep_imagenet_head=True)) + 2_049_000 == parameters


@pytest.mark.parametrize("name", models.MODELS)
def test_every_model_runs(name):
    model = models.create(name, 3, **tiny.BACKBONE)
    outputs = jax.eval_shape(lambda v, x: models.apply(model, v, x), models.shapes(model), jnp.zeros((1, 33, 47, 3)))
    assert set(outputs) == ({"aux", "out"} if "ocr" in name else {"out"})
    assert all(x.shape == (1, 33, 47, 3) and x.dtype == jnp.float32 for x in outputs.values())


def test_heads_work_on_other_backbones():
    assert count(models.create("hrnet_w48_ocr", 19, backbone="hrnet18")) == count(models.create("hrnet_w18_ocr", 19))


def test_a_spec_makes_the_same_model_again():
    model = tiny.create(norm=("inplace_abn", "batch_norm"), dtype="bfloat16")
    again = models.create(**model.spec.to_dict())
    assert isinstance(model.spec, ModelSpec)
    assert again.spec == model.spec
    assert models.shapes(again) == models.shapes(model)


@pytest.mark.parametrize(
    "norm", ["torchbn", "torchsyncbn", ("batch_norm", "batch_norm"), {"backbone": "batch_norm", "head": "syncbn"}]
)
def test_norms_have_the_names_of_the_original_too(norm):
    assert tiny.create(norm=norm).spec.norm == ("batch_norm", "batch_norm")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "hrnet_w84_ocr", "num_classes": 19}, "unknown model 'hrnet_w84_ocr'; did you mean hrnet_w"),
        ({"name": "hrnet_w48_ocr"}, "num_classes must be a positive number for hrnet_w48_ocr, found None"),
        ({"name": "hrnet_w48", "num_classes": 19, "backbone": "hrnet84"}, "unknown backbone 'hrnet84'; did you mean"),
        ({"name": "hrnet_w48", "num_classes": 19, "norm": "layer_norm"}, "unknown norm 'layer_norm'"),
        ({"name": "hrnet_w48", "num_classes": 19, "norm": 3}, "norm must be a name or one each"),
        ({"name": "hrnet_w48", "num_classes": 19, "dtype": "float16"}, 'dtype must be "float32" or "bfloat16"'),
        ({"name": "hrnet_w48", "num_classes": 19, "chanels": 3}, "unknown option 'chanels' for hrnet_w48 on hrnet48"),
        ({"name": "hrnet18", "backbone": "hrnet48"}, "hrnet18 is a backbone itself"),
        ({"name": "hrnet_w18", "num_classes": 19, "norm": "group_norm"}, "18 channels cannot be divided into 8 groups"),
    ],
)
def test_what_cannot_work_says_why(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.create(**arguments)


def test_apply_checks_its_inputs():
    model = tiny.create()
    variables = models.shapes(model)
    for images, sizes, message in (
        (jnp.zeros((1, 3, 32, 32)), None, r"images must be \(N, H, W, 3\), found \(1, 3, 32, 32\)"),
        (jnp.zeros((1, 32, 32, 3), jnp.uint8), None, "images must be floating point"),
        (jnp.zeros((2, 32, 32, 3)), jnp.zeros((1, 2), int), r"sizes must be \(2, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            models.apply(model, variables, images, sizes=sizes)
    del variables["params"]["head"]["classify"]
    with pytest.raises(
        ValueError, match="do not fit hrnet_w48_ocr: 2 leaves are missing or unknown, such as params.head"
    ):
        models.apply(model, variables, jnp.zeros((1, 32, 32, 3)))


def test_initial_values_are_torchs():
    model = tiny.create()
    variables = models.init(model, seed=1)
    kernel = np.asarray(variables["params"]["head"]["pixels"]["conv"]["kernel"])  # 3x3, 60 -> 16
    bound = 1 / math.sqrt(9 * 60)
    assert bound * 0.99 < np.abs(kernel).max() <= bound
    assert abs(kernel.std() - bound / math.sqrt(3)) < 0.03 * bound
    bias = np.asarray(variables["params"]["head"]["pixels"]["conv"]["bias"])
    assert 0 < np.abs(bias).max() <= bound
    norm = variables["params"]["backbone"]["norm1"] | variables["batch_stats"]["backbone"]["norm1"]
    assert {leaf: set(np.asarray(x).tolist()) for leaf, x in norm.items()} == {
        "scale": {1.0}, "bias": {0.0}, "mean": {0.0}, "var": {1.0},
    }  # fmt: skip


def test_initial_values_depend_on_seed_and_path_only():
    first, same, other = (models.init(tiny.create(), seed) for seed in (0, 0, 1))
    wider = models.init(tiny.create(channels=32), 0)
    jax.tree.map(np.testing.assert_array_equal, first, same)
    assert not np.array_equal(
        first["params"]["backbone"]["conv1"]["kernel"], other["params"]["backbone"]["conv1"]["kernel"]
    )
    jax.tree.map(np.testing.assert_array_equal, first["params"]["backbone"], wider["params"]["backbone"])


def test_bfloat16_computes_in_bfloat16_and_answers_in_float32():
    model, wide = tiny.create(dtype="bfloat16"), tiny.create()
    variables = tiny.random_variables(wide)
    images = jax.random.normal(jax.random.key(0), (1, 40, 56, 3))
    jaxpr = str(jax.make_jaxpr(lambda v, x: models.apply(model, v, x))(variables, images))
    assert "bf16" in jaxpr
    outputs, stats = jax.eval_shape(lambda v, x: models.apply(model, v, x, train=True), variables, images)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((outputs, stats)))
    narrow, exact = (jax.jit(lambda m=m: models.apply(m, variables, images)["out"])() for m in (model, wide))
    assert 0 < np.abs(narrow - exact).max() < 0.1 * np.abs(exact).max()


def test_dropout_needs_a_key_and_follows_it():
    model = tiny.create(dropout=0.5)
    variables = tiny.random_variables(model)
    images = jax.random.normal(jax.random.key(0), (2, 40, 56, 3))
    run = jax.jit(lambda rngs: models.apply(model, variables, images, train=True, rngs=rngs)[0]["out"])
    plain, first, again, second = (
        run(None),
        run(jax.random.key(1)),
        run({"dropout": jax.random.key(1)}),
        run(jax.random.key(2)),
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - plain).max() > 1e-3
    assert np.abs(first - second).max() > 1e-3
