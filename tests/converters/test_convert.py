"""Import and export of state dicts: bitwise round trips, strict loading in torch, and every kind of misfit."""

import jax
import numpy as np
import pytest
import torch

from benchmarks.torch_reference import HRNetOCR
from openseg_jax import converters, models
from openseg_jax.converters import rules
from tests import tiny

NORMS = ["batch_norm", "inplace_abn", ("inplace_abn", "batch_norm")]


def assert_bitwise_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


ROUND_TRIPS = [
    *((name, None, "batch_norm") for name in tiny.HEADS),
    *((name, None, "inplace_abn") for name in tiny.HEADS),
    *(("hrnet_w48" + suffix, None, ("inplace_abn", "batch_norm")) for suffix in ("", "_ocr", "_asp_ocr")),
    *(("fcnet", backbone, norm) for backbone in tiny.BACKBONES for norm in ("batch_norm", "inplace_abn")),
]


@pytest.mark.parametrize(("name", "backbone", "norm"), ROUND_TRIPS)
def test_export_then_import_is_bitwise_equal(name, backbone, norm):
    model = tiny.create(name, backbone=backbone, norm=norm)
    variables = tiny.random_variables(model)
    state_dict = converters.export_state_dict(variables, model)
    assert_bitwise_equal(converters.import_state_dict(state_dict, model), variables)
    found = converters.recognise(state_dict)
    assert found.norm == model.spec.norm
    arguments = found.create_arguments()
    if name == "isanet":
        assert len(arguments.pop("factors")) == 2
        arguments["factors"] = ((3, 4), (2, 2))
    again = models.create(**arguments)
    assert_bitwise_equal(converters.import_state_dict(state_dict, again), variables)


def keys_of(model) -> dict:
    """Returns the keys, shapes and dtypes of the model's state dict."""
    leaves = list(rules.leaves(model))
    keys = {leaf.key: jax.ShapeDtypeStruct(leaf.shape, np.float32) for leaf in leaves}
    return keys | {leaf.counter: jax.ShapeDtypeStruct((), np.int32) for leaf in leaves if leaf.counter}


# These have the keys and shapes of another model, and are recognised as that one unless a config says otherwise.
LOOK_LIKE = {
    "ideal_spatial_ocrnet": "spatial_ocrnet", "ideal_spatial_ocrnet_c": "spatial_ocrnet",
    "ideal_gather_ocrnet": "spatial_ocrnet", "ideal_distribute_ocrnet": "spatial_ocrnet",
    "ce2p_ideal_ocrnet": "ce2p_ocrnet",
}  # fmt: skip


@pytest.mark.parametrize("name", models.MODELS)
def test_every_named_model_is_recognised(name):
    recipe = models.MODELS[name]
    classes = 7 if recipe.head.build.needs_classes else None
    keys = keys_of(models.create(name, classes))
    found = converters.recognise(keys)
    assert (found.name, found.backbone, found.num_classes) == (LOOK_LIKE.get(name, name), recipe.backbone, classes)
    assert found.norm == ("batch_norm", "batch_norm")
    assert found.options == {}
    stated = converters.recognise(keys, {"network": {"model_name": name, "backbone": recipe.backbone}})
    assert stated.name == name


@pytest.mark.parametrize("backbone", models.BACKBONES)
def test_every_backbone_is_recognised(backbone):
    """The stride, which changes no shape, comes from the config and is 8 otherwise."""
    keys = keys_of(models.create(backbone))
    stated = converters.recognise(keys, {"network": {"backbone": backbone}})
    assert (stated.name, stated.backbone, stated.options) == (backbone, backbone, {})
    found = converters.recognise({key.removeprefix("backbone."): value for key, value in keys.items()})
    assert found.backbone == backbone.replace("dilated16", "dilated8") or found.backbone == f"{backbone}_dilated8"
    stride_is_assumed = "resn" in backbone and "wide" not in backbone and "st" not in backbone
    assert ("output_stride" in found.assumed) == stride_is_assumed


def reference_net():
    sizes = tiny.BACKBONE
    return HRNetOCR(5, channels=16, key_channels=8, **sizes)


def test_exports_load_strictly_in_torch_and_give_the_same_logits():
    model = tiny.create(aux_channels=None)
    variables = tiny.random_variables(model)
    net = reference_net().eval()
    net.load_state_dict(converters.export_state_dict(variables, model), strict=True)
    images = np.random.default_rng(0).standard_normal((2, 65, 97, 3)).astype(np.float32)
    with torch.no_grad():
        aux, out = net(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    ours = models.apply(model, variables, images)
    for mine, theirs in ((ours["aux"], aux), (ours["out"], out)):
        theirs = theirs.numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(mine, theirs, atol=1e-4 * np.abs(theirs).max())


def test_torch_weights_import_from_any_wrapping():
    model = tiny.create(aux_channels=None)
    state_dict = reference_net().state_dict()
    plain = converters.import_state_dict(state_dict, model)
    assert_bitwise_equal(plain, converters.import_state_dict({f"module.{k}": v for k, v in state_dict.items()}, model))
    assert_bitwise_equal(plain, converters.import_state_dict({k: v.numpy() for k, v in state_dict.items()}, model))
    counted = {k: v for k, v in state_dict.items() if not k.endswith("num_batches_tracked")}
    assert len(counted) < len(state_dict)
    assert_bitwise_equal(plain, converters.import_state_dict(counted, model))


def test_half_precision_weights_become_float32():
    model = tiny.create()
    state_dict = converters.export_state_dict(tiny.random_variables(model), model)
    variables = converters.import_state_dict(
        {k: v.half() if v.is_floating_point() else v for k, v in state_dict.items()}, model
    )
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(variables))


def test_backbones_import_from_imagenet_files():
    """Their keys lack "backbone.", and they have a classification head that no segmentation net has."""
    whole = models.create("hrnet18", keep_imagenet_head=True, **tiny.BACKBONE)
    variables = tiny.random_variables(whole)
    file = {k.removeprefix("backbone."): v for k, v in converters.export_state_dict(variables, whole).items()}
    file |= {"classifier.weight": torch.zeros(1000, 2048), "classifier.bias": torch.zeros(1000)}
    bare = models.create("hrnet18", **tiny.BACKBONE)
    imported = converters.import_state_dict(file, bare)
    wanted = {name: {"backbone": dict(tree["backbone"])} for name, tree in variables.items()}
    for tree in wanted.values():
        del tree["backbone"]["imagenet_head"]
    assert_bitwise_equal(imported, wanted)
    assert_bitwise_equal(converters.import_state_dict(file, whole), variables)
    assert converters.recognise(file).options["width"] == 4


@pytest.mark.parametrize(
    ("backbone", "norm"),
    [
        ("deepbase_resnet101_dilated8", "batch_norm"), ("resnext101_32x8d_dilated8", "batch_norm"),
        ("deepbase_resnest50_dilated8", "batch_norm"), ("wide_resnet38_dilated8", "inplace_abn"),
    ],
)  # fmt: skip
def test_imagenet_files_of_each_family(backbone, norm):
    """Published files lack "backbone." and a ResNet's "resinit.", and have a classifier."""
    model = tiny.create(backbone, norm=norm)
    variables = tiny.random_variables(model)
    file = {
        key.removeprefix("backbone.").removeprefix("resinit."): value
        for key, value in converters.export_state_dict(variables, model).items()
        if not key.endswith("num_batches_tracked")
    }
    if "resnest" not in backbone:  # which keeps its classifier
        name = "classifier.fc" if "wide" in backbone else "fc"
        file |= {f"{name}.weight": torch.zeros(1000, 64), f"{name}.bias": torch.zeros(1000)}
    file = {f"module.{key}": value for key, value in file.items()}
    assert_bitwise_equal(converters.import_state_dict(file, model), variables)
    found = converters.recognise(converters.convert.normalise_keys(file))
    assert models.BACKBONES[found.backbone].build is models.BACKBONES[backbone].build
    if "wide" in backbone:
        assert "the norm of its backbone is inplace_abn, not batch_norm" in misfit(file, tiny.create(backbone))


def test_backbones_import_from_segmentation_nets():
    model, bare = tiny.create(), models.create("hrnet48", **tiny.BACKBONE)
    variables = tiny.random_variables(model)
    imported = converters.import_state_dict(converters.export_state_dict(variables, model), bare)
    assert_bitwise_equal(imported["params"]["backbone"], variables["params"]["backbone"])
    assert set(imported["params"]) == {"backbone"}


# ---------------------------------------------------------------------------------------------------------------------
# Misfits


@pytest.fixture(scope="module")
def pair():
    model = tiny.create()
    return model, converters.export_state_dict(tiny.random_variables(model), model)


def misfit(state_dict, model) -> str:
    with pytest.raises(converters.ConversionError) as caught:
        converters.import_state_dict(state_dict, model)
    return str(caught.value)


def test_every_problem_is_in_one_error(pair):
    model, good = pair
    bad = dict(good)
    del bad["cls_head.bias"]
    bad["extra.weight"] = torch.zeros(3)
    bad["conv3x3.0.bias"] = torch.zeros(7)
    bad["aux_head.0.bias"] = torch.full_like(bad["aux_head.0.bias"], torch.nan)
    assert misfit(bad, model) == (
        "the checkpoint does not fit hrnet_w48_ocr: 1 key missing (cls_head.bias), 1 key unknown (extra.weight), "
        "1 key of another shape (conv3x3.0.bias is (7,) instead of (16,)), "
        "1 key unusable (aux_head.0.bias contains NaN or infinity)"
    )


def test_likely_causes_are_named(pair):
    model, good = pair
    assert "likely cause: it has 5 classes, not 6" in misfit(good, tiny.create(num_classes=6))
    assert "the norm of its backbone is batch_norm, not inplace_abn and the norm of its head is batch_norm" in misfit(
        good, tiny.create(norm="inplace_abn")
    )
    assert "it is hrnet_w18_ocr, not hrnet_w48_asp_ocr" in misfit(good, tiny.create("hrnet_w48_asp_ocr"))
    assert "its backbone is deepbase_resnet50_dilated8, not deepbase_resnet101" in misfit(
        keys_as_zeros("spatial_ocrnet", backbone="deepbase_resnet50_dilated8"), models.create("spatial_ocrnet", 5)
    )
    assert "it is isanet, not spatial_ocrnet" in misfit(keys_as_zeros("isanet"), models.create("spatial_ocrnet", 5))
    net = models.create("hrnet_w18_ocr", 5)
    standard = converters.export_state_dict(models.init(net), net)
    assert "it is hrnet_w18_ocr, not hrnet_w32_ocr" in misfit(standard, models.create("hrnet_w32_ocr", 5))


def keys_as_zeros(name, **options) -> dict:
    return {key: np.zeros(x.shape, x.dtype) for key, x in keys_of(models.create(name, 5, **options)).items()}


def test_recognition_never_raises():
    """Any key may be missing or misshapen."""
    for name in ("hrnet_w48_ocr", "isanet", "asp_ocnet", "ce2p_ocrnet", "segfix_hrnet"):
        keys = keys_of(tiny.create(name))
        for key in [key for key in keys if key.count(".") < 4]:
            converters.recognise({k: x for k, x in keys.items() if k != key})
            converters.recognise(keys | {key: np.zeros(2)})


def test_options_that_change_no_shape_are_compared_where_they_are_known():
    """The original's checkpoints carry their config."""
    model = tiny.create("isanet")  # factors (3, 4), (2, 2)
    state_dict = converters.export_state_dict(tiny.random_variables(model), model)
    network = {"model_name": "isanet", "backbone": "deepbase_resnet101_dilated8", "factors": [[3, 4], [2, 2]]}
    found = converters.recognise(state_dict, {"network": network})
    assert found.options["factors"] == ((3, 4), (2, 2))
    assert converters.import_state_dict(state_dict, model, found)
    for changes, says in (
        ({"factors": [[8, 8], [4, 4]]}, "it is isanet with factors [[8, 8], [4, 4]], not [[3, 4], [2, 2]]"),
        ({"backbone": "deepbase_resnet101_dilated16"}, "it is isanet with output_stride 16, not 8"),
        ({"multi_grid": [1, 2]}, "it is isanet with multi_grid [1, 2], not None"),
    ):
        found = converters.recognise(state_dict, {"network": network | changes})
        with pytest.raises(converters.ConversionError) as caught:
            converters.import_state_dict(state_dict, model, found)
        assert says in str(caught.value)
    assert "it is isanet with 2 factor pairs, not [[8, 8]]" in misfit(
        state_dict, tiny.create("isanet", factors=[[8, 8]])
    )


def test_a_checkpoint_of_another_norm_never_loads():
    """An inplace_abn backbone has every key that a batch_norm backbone has, but computes another function."""
    for source, wanted in (
        (("inplace_abn", "batch_norm"), "batch_norm"),
        ("batch_norm", ("inplace_abn", "batch_norm")),
    ):
        model = tiny.create(norm=source)
        state_dict = converters.export_state_dict(tiny.random_variables(model), model)
        assert "the norm of its backbone is" in misfit(state_dict, tiny.create(norm=wanted))


def test_integer_and_foreign_values_are_refused(pair):
    model, good = pair
    for value in (torch.zeros(5, dtype=int), "text"):
        assert "cls_head.bias is not a floating-point tensor" in misfit(good | {"cls_head.bias": value}, model)


def test_variables_that_do_not_fit_are_not_exported(pair):
    model, _ = pair
    variables = tiny.random_variables(model)
    del variables["params"]["head"]["classify"]["bias"]
    with pytest.raises(converters.ConversionError, match="do not fit hrnet_w48_ocr: head.classify.bias is missing"):
        converters.export_state_dict(variables, model)
