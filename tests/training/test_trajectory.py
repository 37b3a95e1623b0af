"""Several steps of the original's trainer, again: every parameter and statistic after each of them."""

import jax
import numpy as np
import pytest
from flax import nnx

from openseg_jax import sharding
from openseg_jax.data.normalize import Normalization
from openseg_jax.models.layers import BatchNorm, Conv, relu
from openseg_jax.models.segmentor import Head, ModelSpec, Segmentor, Tap, Taps, TapSpec
from openseg_jax.recipes.common import base
from openseg_jax.training import averaging
from openseg_jax.training import step as step_module
from tests.conftest import golden
from tests.training import runs

ARRAYS = golden("trajectory.npz")
RUNS = golden("trajectory.json")
PLACES = {
    "backbone.conv.weight": ("params", "backbone", "conv", "kernel"),
    "backbone.bn.weight": ("params", "backbone", "norm", "scale"),
    "backbone.bn.bias": ("params", "backbone", "norm", "bias"),
    "backbone.bn.running_mean": ("batch_stats", "backbone", "norm", "mean"),
    "backbone.bn.running_var": ("batch_stats", "backbone", "norm", "var"),
    "head.weight": ("params", "head", "out", "kernel"),
    "head.bias": ("params", "head", "out", "bias"),
    "aux_head.weight": ("params", "head", "aux", "kernel"),
    "aux_head.bias": ("params", "head", "aux", "bias"),
}


class Backbone(nnx.Module):
    def __init__(self):
        self.conv, self.norm = Conv(3, 4, 3, bias=False), BatchNorm(4)
        self.taps = TapSpec((Tap(4, 1),), Tap(4, 1), Tap(4, 1))

    def __call__(self, images, *, train):
        x = relu(self.norm(self.conv(images), train=train))
        return Taps((x,), x, x)


class TwoClassifiers(Head):
    def __init__(self, has_aux):
        self.out, self.aux = Conv(4, 5, 1), Conv(4, 5, 1) if has_aux else None

    def __call__(self, taps, *, train, rngs=None):
        return {"out": self.out(taps.high)} | ({} if self.aux is None else {"aux": self.aux(taps.low)})


def configured(name):
    """Our config of a run of the original."""
    theirs = RUNS[name]["config"]
    config = base("hrnet_w18_ocr")
    lr, optim = theirs["lr"], theirs["optim"]
    adam = optim["optim_method"] == "adam"
    decays = optim["group_method"] is None
    config.optimizer.update(
        {
            "name": optim["optim_method"],
            "learning_rate": lr["base_lr"],
            "weight_decay": optim["adam" if adam else "sgd"]["weight_decay"],
            "nesterov": optim["sgd"]["nesterov"],
            "head_multiplier": lr["nbb_mult"] if decays else 1.0,
            "decay_norms_and_biases": decays,
        }
    )
    config.schedule.name = {"lambda_poly": "poly", "lambda_cosine": "cosine", "swa_lambda_poly": "swa_poly"}[
        lr["lr_policy"]
    ]
    if lr["is_warm"]:
        warm = {"steps": lr["warm"]["warm_iters"], "power": 4.0, "freeze": lr["warm"]["freeze_backbone"]}
        config.schedule.warmup.update(warm | {"of": "backbone" if decays else "kernels"})
    loss, params = theirs["loss"], theirs["loss"]["params"]
    names = {
        "fs_auxce_loss": "aux_ce",
        "fs_auxohemce_loss": "aux_ohem",
        "fs_ce_loss": "ce",
        "fs_aux_rmi_loss": "aux_rmi",
    }
    config.loss.name = names[loss["loss_type"]]
    config.loss.class_weights = tuple(params.get("ce_weight", ()))
    if "ohem_thresh" in params:
        config.loss.update({"ohem_threshold": params["ohem_thresh"], "ohem_min_kept": params["ohem_minkeep"]})
    config.train.batch_size = 2
    return config, theirs["solver"]["max_iters"]


def numbers(recorded):
    """Variables in our form, out of the recorded arrays of one step."""
    variables = {}
    for key, path in PLACES.items():
        if key in recorded or "running" in key:
            value = recorded.get(key, np.full(4, float(key.endswith("var")), np.float32))
            node = variables
            for part in path[:-1]:
                node = node.setdefault(part, {})
            node[path[-1]] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
    return variables


def recorded(prefix):
    found = {key.removeprefix(f"{prefix}/"): value for key, value in ARRAYS.items() if key.startswith(f"{prefix}/")}
    return numbers(found)


def assert_close(ours, theirs, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), ours, theirs)


@pytest.mark.parametrize("name", RUNS)
def test_every_step_equals_the_originals(name, monkeypatch):
    """Five updates (of SWA twelve) in float32, each parameter to 1e-6."""
    monkeypatch.setattr(step_module, "normalize", lambda images, boxes, normalization: images)
    monkeypatch.setattr(averaging, "normalize", lambda images, boxes, normalization: images)
    config, steps = configured(name)
    config.train.steps = steps
    has_aux = f"{name}/step1/aux_head.weight" in ARRAYS
    spec = ModelSpec("tiny", 5, "tiny", ("batch_norm", "batch_norm"), "float32", ())
    model = Segmentor(spec, Backbone(), TwoClassifiers(has_aux))
    start = recorded("T1_auxce_poly_nbb10/step3" if name.startswith("R3") else "init")
    if not has_aux:
        del start["params"]["head"]["aux"]
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    step = runs.train_step(config, model, mesh)
    leaves = runs.begin(step, start)
    images = ARRAYS["train/x"].transpose(0, 1, 3, 4, 2)
    labels = ARRAYS["train/y"].astype(np.uint8)  # int8, whose -1, the original's void, becomes 255
    batches = [{"image": x, "label": y, "box": np.zeros((2, 4), np.int32)} for x, y in zip(images, labels, strict=True)]
    losses = [value for _, phase, value in RUNS[name]["losses"] if phase == "train"]

    for k in range(steps):
        leaves, metrics = step(leaves, sharding.put_batch(mesh, batches[k % 3]))
        np.testing.assert_allclose(metrics["loss"], losses[k], rtol=2e-6)
        state = step.unpack(leaves)
        assert_close(state.variables, recorded(f"{name}/step{k + 1}"))

    if name.startswith("T8"):
        assert_close(state.swa.params, recorded(f"{name}/after_swap")["params"])
        feed = iter([sharding.put_batch(mesh, batch) for batch in batches])
        stats = averaging.batch_statistics(model, state.swa.params, feed, 3, Normalization())
        assert_close(stats, recorded(f"{name}/after_bn_update_with_tensor_loader")["batch_stats"])
