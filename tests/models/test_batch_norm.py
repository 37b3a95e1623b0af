"""The batch norm of training against float64, and the ways in which other devices compute it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openseg_jax.models import backend
from openseg_jax.models.batch_norm import batch_norm, moments
from openseg_jax.models.layers import FeatureMap

EPSILON = 1e-5
# name: (shape, mean, deviation, the error that float32 leaves in the result and its gradients)
CASES = {
    "ordinary": ((4, 32, 48, 8), 0.3, 1.0, 3e-6),
    "mean of 1000 deviations": ((4, 32, 48, 8), 1e3, 1.0, 3e-6),
    "the same, and small": ((4, 32, 48, 8), 1.0, 1e-3, 3e-6),
    "tiny variance": ((4, 32, 48, 8), 0.1, 1e-6, 3e-6),
    "two values": ((2, 1, 1, 8), 0.3, 1.0, 2e-5),
    "odd sizes": ((3, 7, 5, 8), -2.0, 0.5, 3e-6),
}


@pytest.fixture(params=["cpu", "gpu"])
def platform(request, monkeypatch):
    monkeypatch.setattr(backend, "current", lambda: backend.Backend(request.param))


def in_float64(x, gain, bias, dy, slope, inside=None):
    """Result, gradients of x, gain and bias, mean and variance, by their formulas."""
    x, dy = x.astype(np.float64), dy.astype(np.float64)
    inside = np.ones((*x.shape[:3], 1)) if inside is None else inside
    count, axes = inside.sum(), (0, 1, 2)
    mean = (x * inside).sum(axes) / count
    var = (((x - mean) ** 2) * inside).sum(axes) / count
    inverse = 1 / np.sqrt(var + EPSILON)
    normalised = (x - mean) * inverse
    z = normalised * gain + bias
    dz = np.where(z > 0, dy, slope * dy) * inside
    of_bias, of_gain = dz.sum(axes), (dz * normalised).sum(axes)
    dx = gain * inverse * (dz - (of_bias + normalised * of_gain) / count) * inside
    return np.where(z > 0, z, slope * z), dx, of_gain, of_bias, mean, var


def ours(x, gain, bias, dy, slope, inside=None, extent=None):
    function = lambda x, gain, bias: batch_norm(x, gain, bias, inside, extent, EPSILON, slope)  # noqa: E731
    (y, found), back = jax.vjp(function, x, gain, bias)
    return y, *back((dy, jax.tree.map(jnp.zeros_like, found))), found.mean, found.var


def inputs(shape, mean=0.3, deviation=1.0, seed=0):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(shape) * deviation + mean).astype(np.float32)
    gain, bias = rng.standard_normal((2, shape[-1])).astype(np.float32)
    return x, gain, bias, rng.standard_normal(shape).astype(np.float32)


def assert_close(found, wanted, tolerance):
    for name, a, b in zip(("y", "dx", "dgain", "dbias", "mean", "var"), found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max(), err_msg=name)


@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_against_float64(platform, case, slope):
    shape, mean, deviation, tolerance = CASES[case]
    x, gain, bias, dy = inputs(shape, mean, deviation)
    wanted = in_float64(x, gain, bias, dy, slope)
    z = in_float64(x, gain, bias, dy, 1.0)[0]
    dy = np.where(np.abs(z) < 1e-3, 0, dy)  # at the bend of the activation rounding decides between two slopes
    assert_close(ours(x, gain, bias, dy, slope), in_float64(x, gain, bias, dy, slope), tolerance)
    np.testing.assert_allclose(moments(x).var, wanted[-1], rtol=1e-5)


def test_a_constant_channel_has_no_variance(platform):
    x = np.full((2, 16, 16, 4), 1234.567, np.float32)
    found = moments(x)
    assert (np.asarray(found.var) == 0).all()
    assert (np.asarray(found.mean) == x[0, 0, 0]).all()


def test_padding_takes_no_part(platform):
    """A padded batch has the moments and gradients of its real positions."""
    x, gain, bias, dy = inputs((3, 12, 10, 4), mean=50.0)
    extent = jnp.array([[12, 10], [5, 7], [1, 2]])
    inside = FeatureMap(x, extent).inside
    x = np.where(inside, x, 0)
    wanted = in_float64(x, gain, bias, dy, 0.0, np.asarray(inside))
    found = ours(x, gain, bias, dy, 0.0, inside, extent)
    np.testing.assert_array_equal(np.where(inside, 0, found[1]), 0)
    assert_close((jnp.where(inside, found[0], 0), *found[1:]), (wanted[0] * inside, *wanted[1:]), 3e-6)


def test_bfloat16_is_rounded_once():
    """The result is that of float32 on the same values, rounded; so is the gradient."""
    x, gain, bias, dy = inputs((2, 16, 16, 8))
    x, dy = x.astype(jnp.bfloat16), dy.astype(jnp.bfloat16)
    narrow = ours(x, gain, bias, dy, 1.0)
    wide = ours(x.astype(np.float32), gain, bias, dy.astype(np.float32), 1.0)
    assert narrow[0].dtype == narrow[1].dtype == jnp.bfloat16
    for a, b in zip(narrow[:2], wide[:2], strict=True):
        np.testing.assert_array_equal(a, b.astype(jnp.bfloat16))
