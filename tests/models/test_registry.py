"""Creating and describing models, and what happens when it cannot work."""

import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openseg_jax import models
from openseg_jax.models import attention
from openseg_jax.models.counting import multiply_adds, parameters
from openseg_jax.models.segmentor import ModelSpec
from tests import tiny

HRNET_MODELS = {
    "hrnet_w48": 70_006_560, "hrnet_w48_ocr": 74_522_182,
    "hrnet_w48_ocr_b": 68_952_550, "hrnet_w48_asp_ocr": 75_977_664,
}  # fmt: skip
BACKBONES = {
    "hrnet18": 9_562_260, "hrnet32": 29_305_536, "hrnet48": 65_325_120, "hrnet64": 115_697_600,
    "hrnet2x20": 47_085_184, "deepbase_resnet18": 11_324_992, "resnet34_dilated16": 21_284_672,
    "resnet50": 23_508_032, "deepbase_resnet50_dilated8": 23_631_808, "resnet101_dilated8": 42_500_160,
    "deepbase_resnet101": 42_623_936, "deepbase_resnet152_dilated8": 58_267_584,
    "resnext101_32x8d_dilated8": 86_742_336, "resnext101_32x16d_dilated8": 191_977_792,
    "resnext101_32x32d_dilated8": 466_481_472, "resnext101_32x48d_dilated8": 826_362_176,
    "wide_resnet16_dilated8": 59_635_008, "wide_resnet20_dilated8": 78_515_520, "wide_resnet38_dilated8": 105_070_912,
    "deepbase_resnest50_dilated8": 27_483_240, "deepbase_resnest101_dilated8": 48_275_016,
    "deepbase_resnest200_dilated8": 70_201_544, "deepbase_resnest269_dilated8": 110_929_480,
}  # fmt: skip
BODIES = (
    "deepbase_resnet50_dilated8", "deepbase_resnet101_dilated8", "wide_resnet38_dilated8",
    "deepbase_resnest101_dilated8", "resnext101_32x8d_dilated8",
)  # fmt: skip
ON_BODIES = {
    "fcnet": (37_810_112, 56_802_240, 133_404_992, 62_453_320, 100_920_640),
    "base_ocnet": (38_995_174, 57_987_302, 134_590_054, 63_638_382, 102_105_702),
    "asp_ocnet": (43_485_286, 62_477_414, 139_080_166, 68_128_494, 106_595_814),
    "isanet": (40_175_590, 59_167_718, None, 64_818_798, 103_286_118),
    "spatial_ocrnet": (38_996_710, 57_988_838, 134_591_590, 63_639_918, 102_107_238),
    "ideal_spatial_ocrnet": (38_996_710, 57_988_838, 134_591_590, 63_639_918, 102_107_238),
    "ideal_spatial_ocrnet_b": (39_258_854, 58_250_982, 134_853_734, 63_902_062, 102_369_382),
    "ideal_spatial_ocrnet_c": (38_996_710, 57_988_838, 134_591_590, 63_639_918, 102_107_238),
    "ideal_gather_ocrnet": (38_996_710, 57_988_838, 134_591_590, 63_639_918, 102_107_238),
    "ideal_distribute_ocrnet": (38_996_710, 57_988_838, 134_591_590, 63_639_918, 102_107_238),
    "spatial_asp_ocrnet": (48_264_038, 67_256_166, None, 72_907_246, 111_374_566),
    "ce2p_asp_ocrnet": (49_612_777, 68_604_905, None, 74_255_985, 112_723_305),
}
SEGFIX = {
    "hrnet18": 9_704_084, "hrnet32": 29_554_880, "hrnet48": 65_697_344, "hrnet64": 116_192_704, "hrnet2x20": 47_406_208,
}  # fmt: skip


@pytest.mark.parametrize("name", HRNET_MODELS)
def test_parameter_counts_of_hrnet_models(name):
    assert parameters(models.create(name, 19)) == HRNET_MODELS[name]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_parameter_counts_of_backbones(backbone):
    assert parameters(models.create(backbone)) == BACKBONES[backbone]


@pytest.mark.parametrize("name", ON_BODIES)
def test_parameter_counts_on_every_body(name):
    found = [parameters(models.create(name, 19, backbone=backbone)) for backbone in BODIES]
    assert all(wanted in (None, count) for count, wanted in zip(found, ON_BODIES[name], strict=True)), found


def test_other_parameter_counts():
    for backbone, count in SEGFIX.items():
        assert parameters(models.create("segfix_hrnet", backbone=backbone)) == count
    for name in ("ce2p_ocrnet", "ce2p_ideal_ocrnet"):
        assert parameters(models.create(name, 20)) == 52_716_908
    two = {"backbone": "deepbase_resnet50_dilated8", "factors": [[8, 8], [4, 4]]}
    assert parameters(models.create("isanet", 19, **two)) == 43_067_366


def test_multiply_adds():
    """Those that the papers state, in 10^9 at 1024x2048. HRNet's are with the 1x1 head of its authors' code."""
    backbone = multiply_adds(models.create("hrnet48"), 1024, 2048)
    head = (720 * 720 + 720 * 19) * 256 * 512
    assert round((backbone + head) / 1e9, 1) == 747.5
    assert round(multiply_adds(models.create("hrnet_w48_ocr", 19), 1024, 2048) / 1e9, 1) == 1841.5
    # attention in 33 equal parts, a loop in the program, counts as attention in one
    small = tiny.create("base_ocnet")
    whole = multiply_adds(small, 128, 256)
    positions = 17 * 33
    with mock.patch.object(
        attention.attend, "__kwdefaults__", attention.attend.__kwdefaults__ | {"max_affinities": 17 * positions}
    ):
        assert multiply_adds(small, 128, 256) == whole


@pytest.mark.parametrize(
    ("backbone", "published"), [("hrnet18_small_v1", 13_187_464), ("hrnet18_small_v2", 15_597_464)]
)
def test_small_hrnets_are_those_of_the_classification_code(backbone, published):
    """Published counts, which include the linear classifier of 2048 x 1000 weights and 1000 biases."""
    assert parameters(models.create(backbone, keep_imagenet_head=True)) + 2_049_000 == published


def output_shapes(model, size=(65, 97)):
    labels = tiny.labels_for(model, (1, *size))
    images = jnp.zeros((1, *size, 3))
    return jax.eval_shape(lambda v, x: models.apply(model, v, x, labels=labels), models.shapes(model), images)


@pytest.mark.parametrize("name", models.MODELS)
def test_every_model_runs(name):
    recipe = models.MODELS[name]
    small = recipe.backbone if recipe.backbone in tiny.BACKBONES else "hrnet48"
    model = models.create(name, 3, backbone=small, **tiny.BACKBONES[small])
    outputs = output_shapes(model)
    assert all(x.dtype == jnp.float32 for x in outputs.values())
    if name == "segfix_hrnet":
        assert {key: x.shape for key, x in outputs.items()} == {"mask": (1, 17, 25, 2), "direction": (1, 17, 25, 8)}
    elif name.startswith("ce2p"):
        assert set(outputs) == {"seg_out1", "edge_out", "seg_dsn", "seg_out2"}
        assert outputs["edge_out"].shape == (1, 65, 97, 2)
        assert outputs["seg_out2"].shape == (1, 65, 97, 3)
    else:
        assert set(outputs) == ({"out"} if name.startswith("hrnet") and "ocr" not in name else {"aux", "out"})
        assert all(x.shape == (1, 65, 97, 3) for x in outputs.values())
    assert model.main_output in outputs


@pytest.mark.parametrize("backbone", tiny.BACKBONES)
@pytest.mark.parametrize("name", tiny.HEADS)
def test_every_head_runs_on_every_backbone_that_has_its_taps(name, backbone):
    gathers = "ocr" in name and not name.startswith(("ideal_spatial", "ideal_gather", "ce2p_ideal"))
    if backbone == "resnet18" and gathers:  # its last two stages differ in stride
        message = f"{name} on resnet18: OCR gathers pixels .* strides 16 and 32; take one that ends in _dilated8 or"
        with pytest.raises(ValueError, match=message):
            tiny.create(name, backbone=backbone)
        return
    model = tiny.create(name, backbone=backbone)
    assert output_shapes(model)[model.main_output].shape[-1] == (2 if name == "segfix_hrnet" else 5)


def test_heads_work_on_other_backbones():
    exchanged, named = models.create("hrnet_w48_ocr", 19, backbone="hrnet18"), models.create("hrnet_w18_ocr", 19)
    assert parameters(exchanged) == parameters(named)


def test_options_reach_the_nets():
    directions = output_shapes(tiny.create("segfix_hrnet", backbone="hrnet2x20", num_directions=16))["direction"]
    assert directions.shape == (1, 33, 49, 16)
    assert output_shapes(models.create("deepbase_resnet50_dilated8", multi_grid=[1, 2, 4]))["tap5"].shape[1:3] == (
        9,
        13,
    )


def test_nets_that_want_labels_say_so():
    ideal, plain = tiny.create("ideal_spatial_ocrnet"), tiny.create("fcnet")
    images, labels = jnp.zeros((1, 33, 47, 3)), jnp.zeros((1, 33, 47), int)
    for model, given, message in (
        (ideal, None, "ideal_spatial_ocrnet needs labels"),
        (plain, labels, "fcnet takes no labels"),
        (ideal, labels[:, 1:], r"labels must be int \(1, 33, 47\), found int32 \(1, 32, 47\)"),
        (ideal, labels.astype(float), "labels must be int"),
    ):
        with pytest.raises(ValueError, match=message):
            models.apply(model, models.shapes(model), images, labels=given)


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
        (
            {"name": "hrnet_w48", "num_classes": 19, "dtype": "float64"},
            'dtype must be "float32", "bfloat16" or "float16"',
        ),
        ({"name": "hrnet_w48", "num_classes": 19, "chanels": 3}, "unknown option 'chanels' for hrnet_w48 on hrnet48"),
        ({"name": "hrnet18", "backbone": "hrnet48"}, "hrnet18 is a backbone itself"),
        (
            {"name": "isanet", "num_classes": 19, "factors": [8, 8]},
            r"isanet on .*factors must be pairs of block height",
        ),
        ({"name": "deepbase_resnet18_dilated8", "multi_grid": [1, 1, 1]}, "more entries than the last stage blocks, 2"),
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
