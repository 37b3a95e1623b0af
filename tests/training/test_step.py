"""Optimizer and step against torch, and on one device against eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from ml_collections import ConfigDict

import converters
from benchmarks.torch_reference import HRNetOCR
from openseg_jax import losses, models, sharding
from openseg_jax.data.normalize import Normalization, normalize
from openseg_jax.errors import InputError
from openseg_jax.training import step as step_module
from openseg_jax.training.loop import make_model
from openseg_jax.training.optimizer import make_optimizer, poly_schedule
from openseg_jax.training.step import make_state, make_train_step
from tests import tiny
from tests.training import runs


def test_schedule_is_the_originals():
    """Update number n has (1 - (n - 1) / N)^0.9: the first is at the base rate, the last above 0."""
    schedule = poly_schedule(0.01, 40_000, 0.9)
    for k in (0, 1, 777, 20_000, 39_999):
        np.testing.assert_allclose(schedule(k), 0.01 * (1 - k / 40_000) ** 0.9, rtol=2e-5)


def test_optimizer_equals_torch():
    config = ConfigDict({"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.01, "head_multiplier": 10.0})
    rng = np.random.default_rng(0)
    params = {part: {"kernel": rng.standard_normal(5).astype(np.float32)} for part in ("backbone", "head")}
    tensors = {part: torch.nn.Parameter(torch.from_numpy(tree["kernel"].copy())) for part, tree in params.items()}
    groups = [{"params": [tensors["backbone"]], "lr": 0.1}, {"params": [tensors["head"]], "lr": 1.0}]
    reference = torch.optim.SGD(groups, momentum=0.9, weight_decay=0.01)
    poly = torch.optim.lr_scheduler.LambdaLR(reference, lambda k: (1 - k / 6) ** 0.9)

    optimizer = make_optimizer(config, poly_schedule(0.1, 6, 0.9))
    state = optimizer.init(params)
    for _ in range(6):
        gradients = {part: {"kernel": rng.standard_normal(5).astype(np.float32)} for part in params}
        updates, state = optimizer.update(gradients, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        for part, tensor in tensors.items():
            tensor.grad = torch.from_numpy(gradients[part]["kernel"])
        reference.step()
        poly.step()
    for part, tensor in tensors.items():
        np.testing.assert_allclose(params[part]["kernel"], tensor.detach(), rtol=1e-5)


def batches(count, crop=(32, 48)):
    rng = np.random.default_rng(0)
    for _ in range(count):
        label = rng.integers(0, 5, (8, *crop)).astype(np.uint8)
        label[:, :3] = 255
        box = np.tile(np.array([[2, 0, crop[0] - 2, crop[1]]], np.int32), (8, 1))
        yield {"image": rng.integers(0, 256, (8, *crop, 3)).astype(np.uint8), "label": label, "box": box}


def trained(mesh, crop=(32, 48), steps=3, name="spatial_ocrnet", model=None, dtype=np.float32, **changes):
    """State, losses and compilations after some steps on fixed data."""
    config = runs.config(name, optimizer__learning_rate=0.01, **changes)
    model = model or make_model(config, 5)
    optimizer = make_optimizer(config.optimizer, poly_schedule(0.01, 10, 0.9))
    variables = jax.tree.map(lambda x: np.asarray(x, dtype), models.init(model))
    state = sharding.put_replicated(mesh, make_state(variables, optimizer))
    normalization = Normalization(**config.normalization)
    step = make_train_step(model, losses.build(config.loss), optimizer, normalization, mesh, seed=0)
    values = []
    for batch in batches(steps, crop):
        state, metrics = step(state, sharding.put_batch(mesh, batch))
        values.append(float(metrics["loss"]))
    return state, values, step


def test_one_device_and_eight_agree_exactly(monkeypatch):
    """Three steps in float64, where rounding can neither make a difference nor hide one. The rows are not split."""
    monkeypatch.setattr(step_module, "normalize", lambda *inputs: normalize(*inputs).astype(jnp.float64))
    with jax.enable_x64(True):
        one, eight = (
            trained(mesh, dtype=jnp.float64)
            for mesh in (sharding.make_mesh(devices=jax.devices()[:1]), sharding.make_mesh(spatial=2))
        )
    np.testing.assert_allclose(one[1], eight[1], rtol=1e-10)
    for part in ("params", "batch_stats"):
        for a, b in zip(jax.tree.leaves(one[0][part]), jax.tree.leaves(eight[0][part]), strict=True):
            assert a.dtype == np.float64
            np.testing.assert_allclose(a, b, atol=1e-9 * max(1, float(np.abs(a).max())))


@pytest.mark.parametrize(
    ("name", "loss", "crop"),
    [("hrnet_w18_ocr", "aux_ce", (144, 32)), ("hrnet_w18_ocr", "aux_ohem", (128, 32))],
)
def test_one_device_and_eight_agree(name, loss, crop):
    """In float32, the rows split over the spatial axis."""
    changes = {"name": name, "loss__name": loss, "loss__ohem_threshold": 0.3, "loss__ohem_min_kept": 2000}
    one, one_losses, _ = trained(sharding.make_mesh(devices=jax.devices()[:1]), crop, **changes)
    mesh = sharding.make_mesh(spatial=2)
    assert dict(mesh.shape) == {"data": 4, "spatial": 2}
    rows = sharding.put_batch(mesh, next(batches(1, crop)))["image"].sharding.shard_shape((8, *crop, 3))[1]
    assert rows == crop[0] // 2
    eight, eight_losses, _ = trained(mesh, crop, **changes)
    np.testing.assert_allclose(one_losses, eight_losses, rtol=1e-5)
    for part in ("params", "batch_stats"):
        for a, b in zip(jax.tree.leaves(one[part]), jax.tree.leaves(eight[part]), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5 * max(1, float(np.abs(a).max())))


def test_a_step_compiles_once():
    _, _, step = trained(sharding.make_mesh(spatial=2), steps=4)
    assert step._cache_size() == 1


def test_nets_that_are_told_labels_are_told_them():
    model = tiny.create("ideal_spatial_ocrnet")
    state, values, _ = trained(sharding.make_mesh(), crop=(32, 48), steps=2, model=model)
    assert np.isfinite(values).all()
    assert np.abs(state["params"]["head"]["context"]["attend"]["value"]["conv"]["kernel"]).max() > 0


def test_a_step_equals_one_in_torch():
    """Two steps of the whole thing: normalisation, net, auxiliary loss, SGD."""
    config = runs.config("hrnet_w18_ocr", model__options__aux_channels=None, model__options__dropout=0.0)
    model = make_model(config, 5)
    optimizer = make_optimizer(config.optimizer, poly_schedule(0.01, 10, 0.9))
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    variables = models.init(model, 3)
    net = HRNetOCR(5, channels=16, key_channels=8, dropout=0.0, **tiny.BACKBONE)
    net.load_state_dict(converters.export_state_dict(variables, model))
    reference = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    poly = torch.optim.lr_scheduler.LambdaLR(reference, lambda k: (1 - k / 10) ** 0.9)

    state = sharding.put_replicated(mesh, make_state(variables, optimizer))
    step = make_train_step(model, losses.build(config.loss), optimizer, Normalization(), mesh, seed=0)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for batch in batches(2):
        images = torch.from_numpy(batch["image"][..., ::-1].copy()).permute(0, 3, 1, 2) / 255
        images = (images - mean) / std
        images[:, :, :2] = 0  # above the boxes
        labels = torch.from_numpy(batch["label"].astype(np.int64))
        aux, out = net(images)
        ce = torch.nn.functional.cross_entropy
        loss = ce(out, labels, ignore_index=255) + 0.4 * ce(aux, labels, ignore_index=255)
        reference.zero_grad()
        loss.backward()
        reference.step()
        poly.step()
        state, metrics = step(state, sharding.put_batch(mesh, batch))
        np.testing.assert_allclose(metrics["loss"], loss.item(), rtol=1e-5)
    ours = converters.export_state_dict({part: state[part] for part in ("params", "batch_stats")}, model)
    for key, theirs in net.state_dict().items():
        if "num_batches" not in key:
            np.testing.assert_allclose(ours[key], theirs, atol=2e-4 * max(1, theirs.abs().max()), err_msg=key)


def test_batches_that_do_not_fit_the_mesh_are_refused():
    mesh = sharding.make_mesh(spatial=2)
    with pytest.raises(InputError, match="train.batch_size of 6 cannot be spread evenly over 4 devices"):
        sharding.check_batch(mesh, "train.batch_size", 6)
    with pytest.raises(InputError, match="a height of 129 cannot be split over mesh.spatial=2 devices"):
        sharding.check_batch(mesh, "train.batch_size", 8, height=129)
    with pytest.raises(InputError, match="mesh.spatial=3 must divide the 8 devices"):
        sharding.make_mesh(spatial=3)
