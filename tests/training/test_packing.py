"""The state of a training run as the arrays of its program, on a CPU and as a GPU lays them out."""

import jax
import numpy as np
import pytest

from openseg_jax import models, sharding
from openseg_jax.models import backend
from openseg_jax.training.setup import make_model
from tests.training import runs
from tests.training.test_step import batches

ORDERS = {"cpu": None, "gpu": (3, 0, 1, 2)}


def step_of(monkeypatch, platform, **changes):
    """A step that lies in memory as on a platform."""
    monkeypatch.setattr(backend.Backend, "kernel_order", ORDERS[platform])
    config = runs.config(train__ema=0.9, **changes)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    return runs.train_step(config, make_model(config.model, 5), mesh)


@pytest.mark.parametrize("platform", ORDERS)
def test_a_packed_state_is_the_same_state(monkeypatch, platform):
    step = step_of(monkeypatch, platform, optimizer__name="adam")
    state = step.init(models.init(step.model))
    state = jax.tree.map(lambda x, s: np.arange(s.size).astype(s.dtype).reshape(s.shape), state, step.shapes)
    arrays = step.pack(sharding.put(step.shardings, state))
    assert [(x.shape, x.dtype) for x in arrays] == [(x.shape, x.dtype) for x in step.arguments]
    assert len(arrays) < len(jax.tree.leaves(state)) * 2 / 3
    jax.tree.map(np.testing.assert_array_equal, step.unpack(arrays), state)


def test_layouts_in_memory_change_no_number(monkeypatch):
    found = {}
    for platform in ORDERS:
        step = step_of(monkeypatch, platform)
        arrays = runs.begin(step, models.init(step.model))
        if platform == "gpu":
            orders = {x.format.layout.major_to_minor for x in arrays if x.ndim == 4}
            assert orders == {(3, 0, 1, 2)}
        for batch in batches(2):
            arrays, metrics = step(arrays, sharding.put_batch(step.mesh, batch))
        found[platform] = jax.device_get(step.unpack(arrays)), jax.device_get(metrics)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *found.values())


def test_vectors_join_one_role_only(monkeypatch):
    step = step_of(monkeypatch, "cpu", optimizer__freeze=("backbone.stem",))
    roles = step.packing.roles.vectors
    assert {(role.group.part, role.frozen) for role in roles} == {
        ("backbone", True),
        ("backbone", False),
        ("head", False),
    }
