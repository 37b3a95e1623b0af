"""Attention in parts equals attention in one, in little memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openseg_jax.models.attention import attend
from openseg_jax.models.heads import isa, ocnet
from openseg_jax.models.layers import FeatureMap
from tests import tiny

RNG = np.random.default_rng(0)


def operands(positions=37):
    shapes = {"query": (2, positions, 6), "key": (2, 29, 6), "value": (2, 29, 5)}
    return {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def test_equals_the_formula():
    x = operands()
    affinity = np.exp(np.einsum("bqc,blc->bql", x["query"], x["key"]) / np.sqrt(6))
    expected = np.einsum("bql,bld->bqd", affinity / affinity.sum(-1, keepdims=True), x["value"])
    np.testing.assert_allclose(attend(**x), expected, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_parts_change_neither_result_nor_gradient(masked):
    x = operands()
    real = jnp.asarray(RNG.random((2, 29)) < 0.5) if masked else None
    weights = RNG.standard_normal((2, 37, 5)).astype(np.float32)

    def run(x, limit):
        return jnp.sum(attend(**x, real=real, max_affinities=limit) * weights)

    whole, parts = (jax.value_and_grad(run)(x, limit) for limit in (2**25, 500))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), whole, parts)


def test_keys_that_do_not_exist_do_not_count():
    x = operands()
    real = np.arange(29) < 11
    few = {"query": x["query"], "key": x["key"][:, :11], "value": x["value"][:, :11]}
    np.testing.assert_allclose(attend(**x, real=jnp.tile(real, (2, 1))), attend(**few), atol=1e-6)
    assert np.isfinite(attend(**x, real=jnp.zeros((2, 29), bool))).all()


def test_memory_stays_bounded():
    """16,384 positions: all affinities would be 1 GiB."""
    shape = jax.ShapeDtypeStruct((1, 128 * 128, 8), jnp.float32)

    def loss(query, key, value):
        return jnp.sum(attend(query, key, value, max_affinities=2**22) ** 2)

    compiled = jax.jit(jax.grad(loss)).lower(shape, shape, shape).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 8 * 4 * 2**22


def test_isa_partitions_cover_every_position_once():
    x = FeatureMap(jnp.arange(2 * 6 * 12 * 1.0).reshape(2, 6, 12, 1))
    for make in (isa.long_range, isa.short_range):
        partition = make(x, factors=(3, 4))
        np.testing.assert_array_equal(partition.join(partition.split(x.values)), x.values)
    rows = isa.long_range(x, factors=(3, 4)).split(x.values)[..., 0]
    assert rows[0].tolist() == [0, 4, 8, 36, 40, 44]  # place (0, 0) of each of the 2 x 3 blocks
    assert isa.short_range(x, factors=(3, 4)).split(x.values)[0, :5, 0].tolist() == [0, 1, 2, 3, 12]


def test_pyramid_regions_take_the_rest_at_the_end():
    x = tiny.feature_map(np.arange(7 * 5.0).reshape(1, 7, 5, 1))
    partition = ocnet.regions(x, grid=3)
    groups, real = partition.split(x.values)[..., 0], np.asarray(partition.real)
    np.testing.assert_array_equal(partition.join(partition.split(x.values)), x.values)
    assert sorted(np.asarray(groups)[real]) == list(range(35)), "each position is in one region"
    assert sorted(np.asarray(groups)[8][real[8]]) == [y * 5 + x for y in (4, 5, 6) for x in (2, 3, 4)]
