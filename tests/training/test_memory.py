"""The memory of a training step, estimated."""

import jax
import jax.numpy as jnp
import pytest

from openseg_jax.training.memory import kept_bytes

X = jax.ShapeDtypeStruct((8, 16), jnp.float32)
W = jax.ShapeDtypeStruct((16, 16), jnp.float32)
SIZE = 8 * 16 * 4


def layer(x, w):
    """Keeps its input and the product, which the norm reads."""
    y = x @ w
    return jax.nn.relu((y - jnp.mean(y)) * jax.lax.rsqrt(jnp.var(y)))


def three(f):
    return lambda w, x: jnp.sum(f(f(f(x, w), w), w))


@pytest.mark.parametrize(
    ("function", "arrays"),
    [
        # what each layer reads (the first one the input, which counts elsewhere) and gives, and a gradient
        (three(layer), 2 + 3 + 1),
        (three(jax.jit(layer)), 2 + 3 + 1),
        # what goes into the parts, what one of them keeps within, and a gradient
        (three(jax.checkpoint(layer)), 2 + 1 + 1),
        (lambda w, x: jnp.sum(jax.lax.scan(lambda x, _: (layer(x, w), None), x, length=3)[0]), 3 + 3 + 1),
        (lambda w, x: jnp.sum(jnp.exp(jnp.sin(x @ w))), 1 + 1),
        (lambda w, x: jnp.sum((x @ w).reshape(16, 8).reshape(8, 16) @ w), 1 + 1 + 1),
    ],
)
def test_what_a_forward_pass_keeps(function, arrays):
    assert kept_bytes(jax.make_jaxpr(function)(W, X)) == arrays * SIZE


def test_narrow_arrays_count_as_what_they_are():
    def function(w, x):
        return jnp.sum(x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16))

    x, w, y = SIZE // 2, 16 * 16 * 2, SIZE // 2
    assert kept_bytes(jax.make_jaxpr(function)(W, X)) == x + w + y + max(x, w, y)
