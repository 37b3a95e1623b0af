"""The training step: against torch, and its modes against what they should be equal to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openseg_jax import converters, models, sharding
from openseg_jax.data.normalize import Normalization, normalize
from openseg_jax.errors import InputError
from openseg_jax.training import step as step_module
from openseg_jax.training.setup import make_model
from openseg_jax.training.state import LossScale
from tests import tiny
from tests.training import runs


def batches(count, crop=(32, 48), size=8):
    rng = np.random.default_rng(0)
    for _ in range(count):
        label = rng.integers(0, 5, (size, *crop)).astype(np.uint8)
        label[:, :3] = 255
        box = np.tile(np.array([[2, 0, crop[0] - 2, crop[1]]], np.int32), (size, 1))
        yield {"image": rng.integers(0, 256, (size, *crop, 3)).astype(np.uint8), "label": label, "box": box}


class Trained:
    """Some steps on fixed data: `state` after them, the metrics of each, and `step`."""

    def __init__(
        self, mesh=None, crop=(32, 48), steps=3, name="spatial_ocrnet", model=None, dtype=np.float32, **changes
    ):
        mesh = mesh or sharding.make_mesh(devices=jax.devices()[:1])
        config = runs.config(name, **{"optimizer__learning_rate": 0.01, "train__steps": 10, **changes})
        model = model or make_model(config.model, 5)
        self.step = runs.train_step(config, model, mesh, Normalization(**config.normalization))
        variables = jax.tree.map(lambda x: np.asarray(x, dtype), models.init(model))
        leaves = runs.begin(self.step, variables)
        self.metrics = []
        for batch in batches(steps, crop):
            leaves, metrics = self.step(leaves, sharding.put_batch(mesh, batch))
            self.metrics.append({key: float(value) for key, value in metrics.items()})
        self.model, self.start, self.state = model, variables, self.step.unpack(leaves)

    @property
    def losses(self):
        return [metrics["loss"] for metrics in self.metrics]


def assert_equal_states(a, b, parts=("params", "batch_stats"), atol=1e-5):
    for part in parts:
        for x, y in zip(jax.tree.leaves(getattr(a.state, part)), jax.tree.leaves(getattr(b.state, part)), strict=True):
            np.testing.assert_allclose(x, y, atol=atol * max(1, float(np.abs(x).max())))


@pytest.fixture
def in_float64(monkeypatch):
    """Where rounding can neither make a difference nor hide one."""
    monkeypatch.setattr(step_module, "normalize", lambda *inputs: normalize(*inputs).astype(jnp.float64))
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def plain():
    return Trained()


def test_ten_steps_equal_those_of_torch(in_float64):
    """Net, auxiliary loss, SGD and schedule, in float64, to 1e-6."""
    torch = pytest.importorskip("torch")
    from benchmarks.torch_reference import HRNetOCR

    config = runs.config("hrnet_w18_ocr", model__options__aux_channels=None, model__options__dropout=0.0)
    model = make_model(config.model, 5)
    variables = jax.tree.map(lambda x: np.asarray(x, np.float64), models.init(model, 3))
    net = HRNetOCR(5, channels=16, key_channels=8, dropout=0.0, **tiny.BACKBONE)
    net.load_state_dict(converters.export_state_dict(models.init(model, 3), model))
    net.double()
    reference = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    poly = torch.optim.lr_scheduler.LambdaLR(reference, lambda k: (1 - k / 20) ** 0.9)

    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    config.train.steps, config.optimizer.learning_rate = 20, 0.01
    step = runs.train_step(config, model, mesh)
    leaves = runs.begin(step, variables)
    for batch in batches(10):
        images = torch.from_numpy(np.array(normalize(batch["image"], batch["box"], Normalization())))
        images = images.permute(0, 3, 1, 2).double()
        labels = torch.from_numpy(batch["label"].astype(np.int64))
        aux, out = net(images)
        ce = torch.nn.functional.cross_entropy
        loss = ce(out, labels, ignore_index=255) + 0.4 * ce(aux, labels, ignore_index=255)
        reference.zero_grad()
        loss.backward()
        reference.step()
        poly.step()
        leaves, metrics = step(leaves, sharding.put_batch(mesh, batch))
        np.testing.assert_allclose(metrics["loss"], loss.item(), rtol=1e-6)
    state = step.unpack(leaves)
    ours = converters.export_state_dict(state.variables, model)
    for key, theirs in net.state_dict().items():
        if "num_batches" not in key:
            np.testing.assert_allclose(ours[key], theirs, atol=1e-6 * max(1, theirs.abs().max()), err_msg=key)


def test_a_step_compiles_once(plain):
    assert plain.step.compiled._cache_size() == 1


def test_nets_that_need_labels_get_them():
    trained = Trained(sharding.make_mesh(), steps=2, model=tiny.create("ideal_spatial_ocrnet"))
    assert np.isfinite(trained.losses).all()
    assert np.abs(trained.state.params["head"]["context"]["attend"]["value"]["conv"]["kernel"]).max() > 0


@pytest.mark.parametrize("scope", ["global", "replica"])
def test_accumulation_equals_the_large_batch(in_float64, scope):
    """With frozen norms, whose statistics do not depend on the batch. Labels are void in parts of their own."""
    options = {"train__frozen_norm": "all", "loss__scope": scope, "loss__replicas": 1, "dtype": np.float64}
    options |= {
        "model__options__dropout": 0.0,
        "model__options__aux_dropout": 0.0,
        "loss__class_weights": (1.0, 2.0, 0.5, 3.0, 1.0),
    }
    whole = Trained(**options | ({"loss__replicas": 4} if scope == "replica" else {}))
    parts = Trained(train__accumulate=4, **options)
    if scope == "global":
        np.testing.assert_allclose(parts.losses, whole.losses, rtol=1e-10)
        assert_equal_states(parts, whole, atol=1e-10)
    else:  # the parts are not those of the replicas, so that every device has rows of each
        np.testing.assert_allclose(parts.losses, whole.losses, rtol=0.05)


def test_accumulation_of_losses_that_are_no_sum_is_refused():
    with pytest.raises(InputError, match="loss.name=aux_ohem of a whole batch is not a sum over its parts"):
        Trained(steps=0, train__accumulate=2, loss__name="aux_ohem")
    with pytest.raises(InputError, match="train.accumulate=3 must divide train.batch_size=8"):
        Trained(steps=0, train__accumulate=3)


def test_frozen_norms_keep_their_statistics(plain):
    trained = Trained(train__frozen_norm="backbone", steps=1)
    kept = jax.tree.map(np.array_equal, trained.state.batch_stats, trained.start["batch_stats"])
    assert all(jax.tree.leaves(kept["backbone"]))
    assert not any(jax.tree.leaves(kept["head"]))
    with pytest.raises(ValueError, match='frozen_norm must be "", "backbone" or "all", found .head.'):
        Trained(train__frozen_norm="head", steps=1)


def test_frozen_parameters_stay():
    trained = Trained(optimizer__freeze=("backbone.stem", "head.aux"), steps=2)
    same = jax.tree.map(np.array_equal, trained.state.params, trained.start["params"])
    assert all(jax.tree.leaves(same["backbone"]["stem"]))
    assert all(jax.tree.leaves(same["head"]["aux"]))
    assert not any(jax.tree.leaves(same["backbone"]["stages"]))
    with pytest.raises(InputError, match="optimizer.freeze names 'backbone.layer1', but no parameter begins so"):
        Trained(optimizer__freeze=("backbone.layer1",), steps=0)


def test_recomputation_changes_nothing_and_keeps_less(plain):
    recomputed = Trained(train__recompute=True)
    np.testing.assert_allclose(recomputed.losses, plain.losses, rtol=1e-5)
    assert_equal_states(recomputed, plain)
    model = plain.model
    images = jax.ShapeDtypeStruct((8, 32, 48, 3), jnp.float32)

    def kept(recompute):
        """Bytes between the forward and the backward pass."""

        def loss(params, images):
            net = {"params": params, "batch_stats": variables["batch_stats"]}
            outputs, _ = models.apply(model, net, images, train=True, recompute=recompute)
            return jnp.sum(outputs["out"])

        variables = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), models.shapes(model))
        backward = jax.eval_shape(lambda p, x: jax.vjp(loss, p, x)[1], variables["params"], images)
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(backward))

    assert kept(True) < 0.6 * kept(False)


def test_gradients_are_clipped(plain):
    """Together, to a norm; without momentum and decay a step is then as long as the rate says."""
    options = {"optimizer__momentum": 0.0, "optimizer__weight_decay": 0.0, "optimizer__clip_norm": 0.01, "steps": 1}
    trained = Trained(**options)
    moved = jax.tree.map(lambda a, b: a - b, trained.state.params, trained.start["params"])
    length = np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(moved)))
    np.testing.assert_allclose(length, 0.01 * 0.01, rtol=1e-3)
    assert trained.metrics[0]["gradient_norm"] == pytest.approx(plain.metrics[0]["gradient_norm"], rel=1e-4)


def test_ema_follows_the_weights(plain):
    trained = Trained(train__ema=0.9, steps=1)
    for part in ("params", "batch_stats"):
        for mean, new, old in zip(
            *(jax.tree.leaves(x[part]) for x in (trained.state.ema, trained.state.variables, trained.start)),
            strict=True,
        ):
            np.testing.assert_allclose(mean, 0.9 * old + 0.1 * new, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_trains_alike(plain, dtype):
    trained = Trained(model__dtype=dtype)
    np.testing.assert_allclose(trained.losses, plain.losses, rtol=0.03)
    assert {x.dtype for x in jax.tree.leaves(trained.state.params)} == {jnp.dtype("float32")}
    if dtype == "float16":
        assert trained.metrics[-1]["loss_scale"] == 2.0**16
        assert trained.metrics[-1]["skipped"] == 0


def test_loss_scaling_skips_what_is_not_finite(monkeypatch):
    """A scale that overflows: the step is not taken, the scale halves, and the schedule goes on."""
    monkeypatch.setattr("openseg_jax.training.state.FIRST_SCALE", 2.0**40)
    trained = Trained(model__dtype="float16", steps=1)
    assert trained.metrics[0]["skipped"] == 1
    assert trained.metrics[0]["loss_scale"] == 2.0**39
    assert int(trained.state.step) == 1
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, trained.state.params, trained.start["params"])))


def test_loss_scale_grows_as_torchs_scaler():
    torch = pytest.importorskip("torch")
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=2000)
    assert scaler.get_growth_factor() == 2
    assert scaler.get_backoff_factor() == 0.5
    state = LossScale(LossScale.start().scale, np.int32(1998))
    for finite, scale, good in ((True, 2**16, 1999), (True, 2**17, 0), (False, 2**16, 0), (True, 2**16, 1)):
        state = state.after(jnp.asarray(finite))
        assert (float(state.scale), int(state.good)) == (scale, good)


def test_batches_that_do_not_fit_the_mesh_are_refused():
    mesh = sharding.make_mesh(spatial=2)
    with pytest.raises(InputError, match="train.batch_size of 5 cannot be spread evenly over 2 devices"):
        sharding.check_batch(mesh, "train.batch_size", 5)
    with pytest.raises(InputError, match="a height of 129 cannot be split over mesh.spatial=2 devices"):
        sharding.check_batch(mesh, "train.batch_size", 8, height=129)
    with pytest.raises(InputError, match="mesh.spatial=3 must divide the 4 devices"):
        sharding.make_mesh(spatial=3)
