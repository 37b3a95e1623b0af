"""State dicts in and out: bitwise round trips, strict loading on the other side, and all that cannot work."""

import jax
import numpy as np
import pytest
import torch

import converters
from benchmarks.torch_reference import HRNetOCR
from converters import rules
from openseg_jax import models
from tests import tiny

NORMS = ["batch_norm", "inplace_abn", ("inplace_abn", "batch_norm")]


def assert_bitwise_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("suffix", tiny.HEADS)
def test_export_then_import_is_bitwise_equal(suffix, norm):
    model = tiny.create(suffix, norm=norm)
    variables = tiny.random_variables(model)
    state_dict = converters.export_state_dict(variables, model)
    assert_bitwise_equal(converters.import_state_dict(state_dict, model), variables)
    found = converters.recognise(state_dict)
    assert models.create(**found.create_arguments()).spec.norm == model.spec.norm
    assert_bitwise_equal(converters.import_state_dict(state_dict, models.create(**found.create_arguments())), variables)


@pytest.mark.parametrize("name", models.MODELS)
def test_every_named_model_is_recognised(name):
    leaves = list(rules.leaves(models.create(name, 7)))
    keys = {leaf.key: jax.ShapeDtypeStruct(leaf.shape, np.float32) for leaf in leaves}
    keys |= {leaf.counter: jax.ShapeDtypeStruct((), np.int32) for leaf in leaves if leaf.counter}
    found = converters.recognise(keys)
    assert (found.name, found.backbone, found.num_classes) == (name, models.MODELS[name].backbone, 7)
    assert found.norm == ("batch_norm", "batch_norm")
    assert found.options == {}


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
    """Keys without "backbone.", a classification head that no segmentation net has."""
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


def test_backbones_import_from_segmentation_nets():
    model, bare = tiny.create(), models.create("hrnet48", **tiny.BACKBONE)
    variables = tiny.random_variables(model)
    imported = converters.import_state_dict(converters.export_state_dict(variables, model), bare)
    assert_bitwise_equal(imported["params"]["backbone"], variables["params"]["backbone"])
    assert set(imported["params"]) == {"backbone"}


# ---------------------------------------------------------------------------------------------------------------------
# What does not fit


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
    net = models.create("hrnet_w18_ocr", 5)
    standard = converters.export_state_dict(models.init(net), net)
    assert "it is hrnet_w18_ocr, not hrnet_w32_ocr" in misfit(standard, models.create("hrnet_w32_ocr", 5))


def test_a_checkpoint_of_another_norm_never_loads():
    """An inplace_abn backbone has every key that a batch_norm backbone has, but is another function."""
    for source, wanted in (
        (("inplace_abn", "batch_norm"), "batch_norm"),
        ("batch_norm", ("inplace_abn", "batch_norm")),
    ):
        model = tiny.create(norm=source)
        state_dict = converters.export_state_dict(tiny.random_variables(model), model)
        assert "the norm of its backbone is" in misfit(state_dict, tiny.create(norm=wanted))


def test_integer_and_foreign_values_are_refused(pair):
    model, good = pair
    assert "cls_head.bias is no tensor of numbers" in misfit(good | {"cls_head.bias": torch.zeros(5, dtype=int)}, model)
    assert "cls_head.bias is no tensor of numbers" in misfit(good | {"cls_head.bias": "text"}, model)


def test_exporting_what_does_not_fit(pair):
    model, _ = pair
    variables = tiny.random_variables(model)
    del variables["params"]["head"]["classify"]["bias"]
    with pytest.raises(converters.ConversionError, match="do not fit hrnet_w48_ocr: head.classify.bias is missing"):
        converters.export_state_dict(variables, model)
