"""Whole nets against the original: real .pth files, the real converter, the tolerances of the goldens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import converters
from openseg_jax import models
from openseg_jax.losses import cross_entropy
from tests import recipe

ABN = {"norm": "inplace_abn"}
MODELS = {
    "hrnet_w48__hrnet48__torchbn": {"name": "hrnet_w48"},
    "hrnet_w48__hrnet48__inplace_abn": {"name": "hrnet_w48", **ABN},
    "hrnet_w48__hrnet48__torchbn_head_on_master": {"name": "hrnet_w48", "norm": ("inplace_abn", "batch_norm")},
    "hrnet_w48_ocr__hrnet48__torchbn": {"name": "hrnet_w48_ocr"},
    "hrnet_w48_ocr__hrnet48__inplace_abn": {"name": "hrnet_w48_ocr", **ABN},
    "hrnet_w48_ocr_b__hrnet48__torchbn": {"name": "hrnet_w48_ocr_b"},
    "hrnet_w48_asp_ocr__hrnet48__torchbn": {"name": "hrnet_w48_asp_ocr"},
    "BACKBONE__hrnet18__torchbn": {"name": "hrnet18"},
    "BACKBONE__hrnet18__torchbn__drop_stage4": {"name": "hrnet18", "drop_stage4": True},
    "BACKBONE__hrnet18__torchbn__full_res_stem": {"name": "hrnet18", "full_res_stem": True},
    "BACKBONE__hrnet18__torchbn__keep_imagenet_head": {"name": "hrnet18", "keep_imagenet_head": True},
    "BACKBONE__hrnet32__torchbn": {"name": "hrnet32"},
    "BACKBONE__hrnet48__torchbn": {"name": "hrnet48"},
}


def imported(name: str, arguments: dict, tmp_path):
    """Model and variables of a golden, through a .pth file on disk, and the keys it held."""
    manifest, arrays = recipe.load(name)
    weights = recipe.state_dict(manifest["keys"], manifest["gains"])
    torch.save({"state_dict": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / "net.pth")
    classes = (
        {} if arguments["name"].startswith("hrnet1") or arguments["name"] in models.BACKBONES else {"num_classes": 19}
    )
    model = models.create(**arguments, **classes)
    return (
        model,
        converters.import_state_dict(converters.read_state_dict(tmp_path / "net.pth"), model),
        manifest,
        arrays,
    )


@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_the_original(name, tmp_path):
    """All inputs of the golden, of two sizes, in one padded batch: each must come out as the original computed it."""
    model, variables, manifest, arrays = imported(name, MODELS[name], tmp_path)
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == manifest["num_params"]
    exported = converters.export_state_dict(variables, model)
    assert set(exported) == {key for key, _, _ in manifest["keys"]}

    a, b = (recipe.images(manifest["inputs"][tag]["seed"], manifest["inputs"][tag]["shape"]) for tag in "AB")
    images = [*a, *b]
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    batch = np.zeros((len(images), height, width, 3), np.float32)
    for row, image in zip(batch, images, strict=True):
        row[: image.shape[0], : image.shape[1]] = image
    sizes = jnp.array([image.shape[:2] for image in images])
    outputs = jax.jit(lambda v, x, sizes: models.apply(model, v, x, sizes=sizes))(variables, batch, sizes)
    check(manifest, arrays, "A", {key: x[: len(a)] for key, x in outputs.items()})
    check(manifest, arrays, "B", {key: x[len(a) :] for key, x in outputs.items()})


@pytest.mark.parametrize("name", ["hrnet_w48_ocr__hrnet48__torchbn", "hrnet_w48_ocr__hrnet48__inplace_abn"])
def test_logits_equal_the_original_without_padding(name, tmp_path):
    model, variables, manifest, arrays = imported(name, MODELS[name], tmp_path)
    images = recipe.images(manifest["inputs"]["A"]["seed"], manifest["inputs"]["A"]["shape"])
    check(manifest, arrays, "A", jax.jit(lambda v, x: models.apply(model, v, x))(variables, images))


def check(manifest, arrays, tag, outputs):
    for expected in manifest["outputs"][tag]:
        n, c, h, w = expected["stride"]
        height, width = expected["shape"][2:]  # the rest is padding
        ours = np.asarray(outputs[expected["name"]])[:, :height, :width].transpose(0, 3, 1, 2)
        np.testing.assert_allclose(
            ours[::n, ::c, ::h, ::w], arrays[f"{tag}.{expected['name']}"], atol=2e-4, err_msg=expected["name"]
        )
        np.testing.assert_allclose([ours.mean(), ours.std()], [expected["mean"], expected["std"]], atol=2e-4)


TRAIN = {
    "TRAIN__hrnet_w48__hrnet48__torchbn": {"name": "hrnet_w48"},
    "TRAIN__hrnet_w48_ocr__hrnet48__torchbn": {"name": "hrnet_w48_ocr"},
    "TRAIN__hrnet_w48_ocr__hrnet48__inplace_abn": {"name": "hrnet_w48_ocr", **ABN},
}


@pytest.mark.parametrize("name", TRAIN)
def test_training_step_equals_the_original(name, tmp_path):
    """Loss, norm of every gradient, batch statistics. Computed in float64, like the golden.

    In float32 the rounding of 300 convolutions decides the sign of single activations near 0, and one such ReLU moves
    gradient norms by 1e-3: that of XLA's convolutions as much as that of torch's (docs/parity.md).
    """
    model, variables, manifest, arrays = imported(name, TRAIN[name], tmp_path)
    images = recipe.images(manifest["input"]["seed"], manifest["input"]["shape"])
    labels = arrays["label"].astype(np.int32)

    def compute(params, batch_stats, images):
        outputs, stats = models.apply(model, {"params": params, "batch_stats": batch_stats}, images, train=True)
        parts = {key: cross_entropy(x, labels, ignore=-1) for key, x in outputs.items()}
        return parts["out"] + 0.4 * parts.get("aux", 0), stats

    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: x.astype(jnp.float64), variables)
        step = jax.jit(jax.value_and_grad(compute, has_aux=True))
        (loss, stats), gradients = step(wide["params"], wide["batch_stats"], images.astype(np.float64))
        found = converters.export_state_dict({"params": gradients, "batch_stats": stats}, model)

    np.testing.assert_allclose(loss, manifest["loss"], rtol=1e-5)
    norms = np.array([np.linalg.norm(found[key].double().numpy()) for key in manifest["params"]])
    np.testing.assert_allclose(norms, arrays["grad_l2"], rtol=1e-3, atol=1e-6)
    summaries = [(np.linalg.norm(x), x.mean()) for x in (found[key].double().numpy() for key in manifest["stats"])]
    np.testing.assert_allclose(summaries, arrays["stats_l2_mean"], rtol=1e-5, atol=1e-5)
    for key, expected in arrays.items():
        kind, _, entry = key.partition(".")
        if kind == "bn":
            np.testing.assert_allclose(found[entry], expected, atol=1e-5, err_msg=entry)
        elif kind == "grad":
            np.testing.assert_allclose(found[entry], expected, atol=1e-3 * np.abs(expected).max(), err_msg=entry)


def test_training_step_in_float32(tmp_path):
    """The loss and the statistics in the precision that training has."""
    name = "TRAIN__hrnet_w48_ocr__hrnet48__torchbn"
    model, variables, manifest, arrays = imported(name, TRAIN[name], tmp_path)
    images = recipe.images(manifest["input"]["seed"], manifest["input"]["shape"])
    outputs, stats = jax.jit(lambda v, x: models.apply(model, v, x, train=True))(variables, images)
    parts = {key: cross_entropy(x, arrays["label"].astype(np.int32), ignore=-1) for key, x in outputs.items()}
    np.testing.assert_allclose(parts["out"] + 0.4 * parts["aux"], manifest["loss"], rtol=1e-5)
    found = converters.export_state_dict({"params": variables["params"], "batch_stats": stats}, model)
    for key in (key for key in arrays if key.startswith("bn.")):
        np.testing.assert_allclose(found[key.removeprefix("bn.")], arrays[key], atol=1e-5, err_msg=key)
