"""The training state and its form on disk."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from openseg_jax import models
from openseg_jax.checkpoints import Checkpoints, Metadata
from openseg_jax.config import typed
from openseg_jax.training import loop
from openseg_jax.training.averaging import SwaAverage
from openseg_jax.training.schedules import Plateau
from openseg_jax.training.setup import make_run
from openseg_jax.training.state import LossScale
from tests.training import runs

pytestmark = pytest.mark.filterwarnings("ignore:.*sharding info not provided.*")

# What `training` held of each optional part when the state was nested dicts.
PARTS = {
    "swa": {"params": ..., "count": np.int32(2)},
    "plateau": {"factor": np.float32(0.5), "best": np.float32(0.25), "bad": np.int32(1), "cooldown": np.int32(3)},
    "loss_scale": {"scale": np.float32(1024), "good": np.int32(7)},
}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, set()),
        ({"train__ema": 0.9, "schedule__name": "plateau"}, {"ema", "plateau"}),
        ({"schedule__name": "swa_poly", "model__dtype": "float16"}, {"swa", "loss_scale"}),
    ],
)
def test_a_folder_of_nested_dicts_restores(tmp_path, changes, parts):
    """As runs before typed states wrote it; and what is written today has the same form."""
    run = make_run(typed(runs.config(**changes)))
    variables = models.init(run.model, 1)
    average = models.init(run.model, 2)
    training = {"step": np.int32(5), "opt_state": run.step.optimizer.init(variables["params"]), "ema": average}
    training |= PARTS | {"swa": PARTS["swa"] | {"params": average["params"]}}
    training = {name: part for name, part in training.items() if name in parts | {"step", "opt_state"}}
    saved = Checkpoints(tmp_path / "latest")
    saved.save(variables, Metadata(run.model.spec.to_dict(), run.normalization, run.classes, step=5), training)
    saved.close()

    state, _, origin = loop._start(run, Checkpoints(tmp_path / "latest"))
    assert origin == f"continuing after step 5, from {tmp_path / 'latest'}"
    kinds = {"ema": dict, "swa": SwaAverage, "plateau": Plateau, "loss_scale": LossScale}
    assert {name for name in kinds if getattr(state, name) is not None} == parts
    assert all(isinstance(getattr(state, name), kinds[name]) for name in parts)
    for ours, theirs in zip(state.to_parts(), (variables, training), strict=True):
        ours, theirs = (traverse_util.flatten_dict(tree) for tree in (ours, theirs))
        assert ours.keys() == theirs.keys()
        for path, value in theirs.items():
            jax.tree.map(np.testing.assert_array_equal, ours[path], value)
