"""Interpolation against the recorded outputs of torch and OpenCV."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openseg_jax.models import resize
from openseg_jax.models.layers import Canvas, FeatureMap
from tests import recipe
from tests.conftest import golden

Z = golden("resize.npz")
_, UNITS = recipe.load("UNIT")
SIZES = [(22, 34), (16, 25), (7, 9), (11, 17), (12, 18)]
RULES = {
    "bilinear_ac": lambda x, to: resize.bilinear(x, to=to, align_corners=True),
    "bilinear_noac": lambda x, to: resize.bilinear(x, to=to, align_corners=False),
    "cubic": lambda x, to: resize.cubic(x, to=to),
    "nearest": lambda x, to: resize.nearest(x, to=to),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rule", RULES)
def test_equals_goldens(rule, size):
    name = f"{size[1]}x{size[0]}"
    if rule == "nearest":
        source, expected = Z["prim_label_in"][None, :, :, None], Z[f"torch_nearest_{name}"][None, :, :, None]
    elif rule == "cubic":
        source, expected = Z["prim_float_in"][None], Z[f"cv2_cubic_float_{name}"][None]
    else:
        source, expected = Z["prim_float_in"][None], Z[f"torch_{rule}_{name}"].transpose(0, 2, 3, 1)
    ours = RULES[rule](FeatureMap(jnp.asarray(source)), Canvas(*size)).values
    np.testing.assert_allclose(ours, expected, atol=1e-5 * max(1, np.abs(expected).max()))


def test_align_corners_with_single_pixels():
    x = np.random.Generator(np.random.PCG64(42)).standard_normal((1, 2, 5, 7)).astype(np.float32).transpose(0, 2, 3, 1)
    for name, source in {"9x13": x, "3x4": x, "from_1x1": x[:, :1, :1], "to_1x1": x}.items():
        expected = UNITS[f"op.bilinear_ac_{name}"].transpose(0, 2, 3, 1)
        ours = RULES["bilinear_ac"](FeatureMap(jnp.asarray(source)), Canvas(*expected.shape[1:3])).values
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_nearest_rounds_as_torch_does():
    for key, expected in UNITS.items():
        if key.startswith("op.nearest_index"):
            n_in, n_out = (int(n) for n in key.split("_")[-3::2])
            (index,), _ = resize.nearest_taps(np.arange(n_out), n_in, n_out)
            np.testing.assert_array_equal(index, expected)


@pytest.mark.parametrize("rule", RULES)
def test_gradient_is_the_transpose(rule):
    """The hand-written backward against torch's, or against the definition of a transpose."""
    x = np.random.default_rng(0).standard_normal((2, 5, 6, 3)).astype(np.float32)
    gradient = np.random.default_rng(1).standard_normal((2, 8, 11, 3)).astype(np.float32)
    y, vjp = jax.vjp(lambda x: RULES[rule](FeatureMap(x), Canvas(8, 11)).values, jnp.asarray(x))
    (ours,) = vjp(jnp.asarray(gradient))
    np.testing.assert_allclose(np.vdot(y, gradient), np.vdot(x, ours), rtol=1e-4)
    if rule.startswith("bilinear"):
        torch = pytest.importorskip("torch")
        source = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_()
        result = torch.nn.functional.interpolate(
            source, size=(8, 11), mode="bilinear", align_corners=rule == "bilinear_ac"
        )
        result.backward(torch.from_numpy(gradient.transpose(0, 3, 1, 2).copy()))
        np.testing.assert_allclose(ours, source.grad.numpy().transpose(0, 2, 3, 1), atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_padded_batch_equals_each_alone(rule):
    rng = np.random.default_rng(0)
    sizes_in, sizes_out = [(7, 9), (11, 4), (1, 5)], [(15, 11), (9, 16), (4, 1)]
    images = [rng.standard_normal((1, *size, 3)).astype(np.float32) for size in sizes_in]
    batch = np.zeros((3, 11, 9, 3), np.float32)
    for row, image in zip(batch, images, strict=True):
        row[: image.shape[1], : image.shape[2]] = image[0]
    canvas = Canvas(16, 16, jnp.asarray(sizes_out))
    together = RULES[rule](FeatureMap(jnp.asarray(batch), jnp.asarray(sizes_in)), canvas).values
    for row, image, size in zip(np.asarray(together), images, sizes_out, strict=True):
        alone = RULES[rule](FeatureMap(jnp.asarray(image)), Canvas(*size)).values[0]
        np.testing.assert_allclose(row[: size[0], : size[1]], alone, atol=2e-5)
        assert not row[size[0] :].any()
        assert not row[:, size[1] :].any()


def test_gradient_of_a_padded_batch():
    sizes_in, sizes_out = jnp.array([[3, 4], [5, 2]]), jnp.array([[6, 7], [8, 8]])
    x = np.random.default_rng(0).standard_normal((2, 5, 4, 2)).astype(np.float32)
    gradient = np.random.default_rng(1).standard_normal((2, 8, 8, 2)).astype(np.float32)
    canvas = Canvas(8, 8, sizes_out)
    y, vjp = jax.vjp(lambda x: RULES["bilinear_ac"](FeatureMap(x, sizes_in), canvas).values, jnp.asarray(x))
    np.testing.assert_allclose(np.vdot(y, gradient), np.vdot(x, vjp(jnp.asarray(gradient))[0]), rtol=1e-4)
