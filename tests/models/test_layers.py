"""Operations against torch, and against themselves alone and in a padded batch."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from openseg_jax.errors import InputError
from openseg_jax.models import layers, pooling
from openseg_jax.models.layers import FeatureMap
from tests import recipe, tiny

RNG = np.random.default_rng(0)
_, UNITS = recipe.load("UNIT")


def nhwc(*shape, scale=1.0, offset=0.0):
    return (RNG.standard_normal(shape) * scale + offset).astype(np.float32)


def to_torch(x):
    return torch.from_numpy(np.ascontiguousarray(np.asarray(x).transpose(0, 3, 1, 2)))


def from_torch(x):
    return x.detach().numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel": 1},
        {"kernel": 1, "stride": 2},
        {"kernel": 1, "groups": 4},
        {"kernel": 3, "groups": 8},
        {"kernel": 3},
        {"kernel": 3, "bias": False},
        {"kernel": 3, "stride": 2},
        {"kernel": 3, "padding": 0},
        {"kernel": 3, "dilation": 4},
        {"kernel": 3, "groups": 2},
        {"kernel": 3, "groups": 2, "stride": 2, "dilation": 2},
        {"kernel": 7, "stride": 2},
    ],
)
def test_conv_equals_torch(arguments):
    x = nhwc(2, 9, 12, 8)
    conv = layers.Conv(8, 16, **arguments)
    kernel, bias = nhwc(*conv.kernel.get_value().shape), nhwc(16)
    ours, _ = tiny.run_module(conv, {"kernel": kernel, "bias": bias}, tiny.feature_map(x))
    options = {key: arguments.get(key, default) for key, default in (("stride", 1), ("dilation", 1), ("groups", 1))}
    theirs = torch.nn.functional.conv2d(
        to_torch(x), torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()),
        torch.from_numpy(bias) if arguments.get("bias", True) else None, padding=conv.padding, **options,
    )  # fmt: skip
    np.testing.assert_allclose(ours.values, from_torch(theirs), atol=2e-6 * theirs.abs().max().item())


def norm_values(norm, channels):
    values = {"scale": RNG.uniform(-1.5, 1.5, channels), "bias": nhwc(channels)}
    if norm is not layers.GroupNorm:
        values |= {"mean": nhwc(channels), "var": RNG.uniform(0.5, 2, channels)}
    return {key: np.asarray(value, np.float32) for key, value in values.items()}


@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_equals_torch(train):
    x, values = nhwc(2, 5, 7, 6, scale=3, offset=2), norm_values(layers.BatchNorm, 6)
    ours, after = tiny.run_module(layers.BatchNorm(6), values, tiny.feature_map(x), train=train)
    reference = torch.nn.BatchNorm2d(6).train(train)
    names = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
    reference.load_state_dict({k: torch.from_numpy(values[v].copy()) for k, v in names.items()}, strict=False)
    np.testing.assert_allclose(ours.values, from_torch(reference(to_torch(x))), atol=2e-5)
    np.testing.assert_allclose(after["mean"], reference.running_mean, atol=1e-6)
    np.testing.assert_allclose(after["var"], reference.running_var, atol=1e-5)


def test_running_variance_is_the_unbiased_one():
    x = nhwc(1, 1, 2, 3)  # n = 2: twice the biased variance
    values = {"scale": np.ones(3), "bias": np.zeros(3), "mean": np.zeros(3), "var": np.zeros(3)}
    _, after = tiny.run_module(layers.BatchNorm(3), values, tiny.feature_map(x), train=True)
    np.testing.assert_allclose(after["var"], 0.1 * x.var(axis=(0, 1, 2), ddof=1), rtol=1e-5)


@pytest.mark.parametrize("norm", [layers.BatchNorm, layers.InplaceABN])
def test_one_value_per_channel_has_no_variance(norm):
    """As in torch; with two positions, or in evaluation, it is computed."""
    values = norm_values(norm, 4)
    run = lambda width, train: tiny.run_module(norm(4), values, FeatureMap(jnp.ones((1, 1, width, 4))), train=train)  # noqa: E731
    with pytest.raises(InputError, match="one value per channel"):
        run(1, train=True)
    run(2, train=True)
    run(1, train=False)


def test_batch_norm_survives_a_large_mean():
    """Where E[x^2] - E[x]^2 gives anything between 0 and ten times the variance."""
    x = nhwc(4, 16, 16, 3, scale=0.01, offset=100)
    values = {"scale": np.ones(3), "bias": np.zeros(3), "mean": np.zeros(3), "var": np.zeros(3)}
    _, after = tiny.run_module(layers.BatchNorm(3), values, tiny.feature_map(x), train=True)
    np.testing.assert_allclose(after["var"], 0.1 * x.astype(np.float64).var(axis=(0, 1, 2), ddof=1), rtol=1e-2)


@pytest.mark.parametrize("train", [False, True])
def test_inplace_abn_equals_its_formula(train):
    x, values = nhwc(2, 5, 7, 6, offset=1), norm_values(layers.InplaceABN, 6)
    ours, _ = tiny.run_module(layers.InplaceABN(6), values, tiny.feature_map(x), train=train)
    mean, var = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if train else (values["mean"], values["var"])
    expected = (x - mean) / np.sqrt(var + 1e-5) * (np.abs(values["scale"]) + 1e-5) + values["bias"]
    np.testing.assert_allclose(ours.values, expected, atol=2e-5)
    activated = layers.InplaceABN(1).activate(tiny.feature_map([-2.0, 3.0])).values
    np.testing.assert_allclose(activated, [-0.02, 3.0], rtol=1e-6)


def test_group_norm_equals_torch():
    x, values = nhwc(2, 5, 7, 16, offset=1), norm_values(layers.GroupNorm, 16)
    ours, _ = tiny.run_module(layers.GroupNorm(16), values, tiny.feature_map(x), train=True)
    weight, bias = (torch.from_numpy(values[key]) for key in ("scale", "bias"))
    np.testing.assert_allclose(
        ours.values, from_torch(torch.nn.functional.group_norm(to_torch(x), 8, weight, bias)), atol=2e-5
    )
    with pytest.raises(ValueError, match="18 channels cannot be divided into 8 groups"):
        layers.GroupNorm(18)


@pytest.mark.parametrize("ceil_mode", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (2, 2, 0), (3, 3, 1)])
def test_max_pool_equals_torch(kernel, stride, padding, ceil_mode):
    for height in range(4, 12):
        x = nhwc(1, height, height + 3, 2)
        ours = pooling.max_pool(tiny.feature_map(x), kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)
        theirs = torch.nn.functional.max_pool2d(to_torch(x), kernel, stride, padding, ceil_mode=ceil_mode)
        np.testing.assert_array_equal(ours.values, from_torch(theirs))


def test_max_pool_equals_goldens():
    x = np.random.Generator(np.random.PCG64(42)).standard_normal((1, 2, 5, 7)).astype(np.float32).transpose(0, 2, 3, 1)
    for name, crop, kernel, padding, ceil in (
        ("k3s2p1_ceil_5x7", (5, 7), 3, 1, True), ("k3s2p1_ceil_4x6", (4, 6), 3, 1, True),
        ("k3s2p1_floor_4x6", (4, 6), 3, 1, False), ("k2_floor_5x7", (5, 7), 2, 0, False),
    ):  # fmt: skip
        part = tiny.feature_map(x[:, : crop[0], : crop[1]])
        ours = pooling.max_pool(part, kernel, stride=2, padding=padding, ceil_mode=ceil)
        np.testing.assert_array_equal(ours.values.transpose(0, 3, 1, 2), UNITS[f"op.maxpool_{name}"])


@pytest.mark.parametrize("pool", [pooling.max_pool, pooling.avg_pool])
def test_gradient_of_pooling_equals_torchs(pool):
    x = nhwc(1, 7, 9, 2)
    options = (
        {"stride": 2, "padding": 1, "ceil_mode": True} if pool is pooling.max_pool else {"stride": 2, "padding": 1}
    )
    ours = jax.jit(jax.grad(lambda x: jnp.sum(pool(FeatureMap(x), 3, **options).values ** 2)))(jnp.asarray(x))
    source = to_torch(x).requires_grad_()
    theirs = torch.nn.functional.max_pool2d if pool is pooling.max_pool else torch.nn.functional.avg_pool2d
    (theirs(source, 3, **options) ** 2).sum().backward()
    np.testing.assert_allclose(ours, from_torch(source.grad), atol=1e-6)


AVERAGES = {
    "k3s1p1_incl": {"kernel": 3, "stride": 1, "padding": 1},
    "k3s2p1_incl": {"kernel": 3, "stride": 2, "padding": 1},
    "k2s2_ceil_excl": {"kernel": 2, "stride": 2, "ceil_mode": True, "count_include_pad": False},
}


@pytest.mark.parametrize("name", AVERAGES)
def test_avg_pool_equals_goldens(name):
    x = np.random.Generator(np.random.PCG64(42)).standard_normal((1, 2, 5, 7)).astype(np.float32).transpose(0, 2, 3, 1)
    ours = pooling.avg_pool(tiny.feature_map(x), **AVERAGES[name])
    np.testing.assert_allclose(ours.values.transpose(0, 3, 1, 2), UNITS[f"op.avgpool_{name}"], atol=1e-6)


def test_channel_dropout_drops_whole_channels():
    x = tiny.feature_map(np.ones((8, 4, 4, 64), np.float32))
    dropout = layers.ChannelDropout(0.25)
    y = np.asarray(dropout(x, train=True, rngs=jax.random.key(0)).values)
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert (y == y[:, :1, :1]).all()
    assert abs((y == 0).mean() - 0.25) < 0.05
    for quiet in ({"train": False, "rngs": jax.random.key(0)}, {"train": True, "rngs": None}):
        assert dropout(x, **quiet) is x


# ---------------------------------------------------------------------------------------------------------------------
# Extents: every primitive gives each image of a padded batch what it gives that image alone

SIZES = [(7, 9), (8, 5), (11, 12), (1, 3)]


def padded_batch(channels, garbage=0.0):
    images = [nhwc(1, *size, channels, offset=0.5) for size in SIZES]
    batch = np.full((len(SIZES), 11, 12, channels), garbage, np.float32)
    for row, image in zip(batch, images, strict=True):
        row[: image.shape[1], : image.shape[2]] = image[0]
    return images, FeatureMap(jnp.asarray(batch), jnp.asarray(SIZES)).zero_outside()


def assert_rows_equal(batch: FeatureMap, alone: list[FeatureMap], tolerance=1e-5):
    for i, single in enumerate(alone):
        assert tuple(np.asarray(batch.extent[i])) == single.shape[1:3]
        row = np.asarray(batch.values[i])
        height, width = single.shape[1:3]
        np.testing.assert_allclose(row[:height, :width], single.values[0], atol=tolerance, rtol=1e-6)
        assert not row[height:].any()
        assert not row[:, width:].any()


@pytest.mark.parametrize(
    "build",
    [
        lambda: layers.Conv(4, 6, 3), lambda: layers.Conv(4, 6, 3, stride=2), lambda: layers.Conv(4, 6, 1, stride=2),
        lambda: layers.Conv(4, 6, 3, dilation=3), lambda: layers.Conv(4, 6, 7, stride=2),
    ],
)  # fmt: skip
def test_conv_in_a_padded_batch(build):
    conv = build()
    values = {"kernel": nhwc(*conv.kernel.get_value().shape), "bias": nhwc(6)}
    images, batch = padded_batch(4, garbage=9.0)
    ours, _ = tiny.run_module(conv, values, batch)
    assert_rows_equal(ours, [tiny.run_module(conv, values, tiny.feature_map(x))[0] for x in images])


@pytest.mark.parametrize("norm", list(layers.NORMS.values()))
def test_norm_in_a_padded_batch(norm):
    images, batch = padded_batch(8)
    values = norm_values(norm, 8)
    ours, _ = tiny.run_module(norm(8), values, batch, train=False)
    assert_rows_equal(ours, [tiny.run_module(norm(8), values, tiny.feature_map(x), train=False)[0] for x in images])


def test_batch_statistics_are_those_of_the_real_pixels():
    images, batch = padded_batch(8)
    values = norm_values(layers.BatchNorm, 8)
    pixels = np.concatenate([x.reshape(1, 1, -1, 8) for x in images], axis=2)
    together, expected = tiny.run_module(layers.BatchNorm(8), values, tiny.feature_map(pixels), train=True)
    ours, after = tiny.run_module(layers.BatchNorm(8), values, batch, train=True)
    for stat in ("mean", "var"):
        np.testing.assert_allclose(after[stat], expected[stat], rtol=1e-5)
    inside = np.asarray(ours.values)[np.broadcast_to(np.asarray(batch.inside), ours.shape)].reshape(-1, 8)
    np.testing.assert_allclose(inside, np.asarray(together.values).reshape(-1, 8), atol=1e-5)


@pytest.mark.parametrize("ceil_mode", [True, False])
def test_max_pool_in_a_padded_batch(ceil_mode):
    images, batch = padded_batch(3)
    batch, images = batch.replace(batch.values - 5).zero_outside(), [x - 5 for x in images]  # 0 must not win
    pool = lambda x: pooling.max_pool(x, 3, stride=2, padding=1, ceil_mode=ceil_mode)  # noqa: E731
    assert_rows_equal(pool(batch), [pool(tiny.feature_map(x)) for x in images])


@pytest.mark.parametrize("name", AVERAGES)
def test_avg_pool_in_a_padded_batch(name):
    images, batch = padded_batch(3)
    pool = lambda x: pooling.avg_pool(x, **AVERAGES[name])  # noqa: E731
    assert_rows_equal(pool(batch), [pool(tiny.feature_map(x)) for x in images])
    together = pooling.global_avg_pool(batch).values
    np.testing.assert_allclose(together[:, 0, 0], [x.mean((0, 1, 2)) for x in images], atol=1e-6)


def test_batch_norm_is_cheap_to_trace():
    """300 layers, as in an HRNet: with flax.nnx.BatchNorm this takes half a minute."""

    class Chain(nnx.Module):
        def __init__(self):
            self.norms = nnx.List(layers.BatchNorm(2) for _ in range(300))

        def __call__(self, x):
            for norm in self.norms:
                x = norm(x, train=True)
            return x.values

    graph, state = nnx.split(Chain())
    start = time.process_time()
    jax.eval_shape(lambda s, x: nnx.merge(graph, s)(FeatureMap(x)), state, jnp.zeros((1, 2, 2, 2)))
    assert time.process_time() - start < 10
