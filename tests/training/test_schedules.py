"""Schedules against the original's tables, and against torch."""

import jax
import numpy as np
import pytest

from openseg_jax.config import typed
from openseg_jax.errors import InputError
from openseg_jax.recipes.common import base
from openseg_jax.training.optimizer import Group, Optimizer
from openseg_jax.training.schedules import Plateau
from tests.conftest import golden

TABLES = golden("lr_tables.json")
NAMES = {
    "lambda_poly": "poly",
    "lambda_cosine": "cosine",
    "swa_lambda_poly": "swa_poly",
    "swa_lambda_cosine": "swa_cosine",
}


def optimizer(steps, **schedule):
    config = base("hrnet_w18_ocr")
    for name, value in schedule.items():
        part, _, field = name.rpartition("__")
        (config.schedule[part] if part else config.schedule)[field] = value
    config.optimizer.learning_rate = 1.0
    config = typed(config)
    return Optimizer(config.optimizer, config.schedule, steps)


@pytest.mark.parametrize("name", TABLES)
def test_rates_are_the_originals(name):
    """Every learning rate that the original used, of both of its groups, to the last digits."""
    table = TABLES[name]
    lr, of_kernels = table["lr_cfg"], table["group"] == "decay"
    config = base("hrnet_w18_ocr")
    config.optimizer.learning_rate = lr["base_lr"]
    config.optimizer.head_multiplier = 1.0 if of_kernels else lr["nbb_mult"]
    config.schedule.name = NAMES.get(lr["lr_policy"], lr["lr_policy"])
    config.schedule.power = table["env"].get("lambda_poly_power", lr.get("lambda_poly", {}).get("power", 0.9))
    config.schedule.update({"gamma": 0.5, "step_size": 25} if lr["lr_policy"] == "step" else {})
    if lr["lr_policy"] == "multistep":
        config.schedule.update({"gamma": 0.1, "milestones": tuple(lr["multistep"]["stepvalue"])})
    if lr["is_warm"]:
        warm = lr["warm"]
        config.schedule.warmup.update({"steps": warm["warm_iters"], "power": 4.0, "freeze": warm["freeze_backbone"]})
        config.schedule.warmup.of = "kernels" if of_kernels else "backbone"
    first, second = (
        (Group("backbone", True), Group("backbone", False))
        if of_kernels
        else (Group("backbone", True), Group("head", True))
    )
    config = typed(config)
    rates = jax.jit(Optimizer(config.optimizer, config.schedule, table["max_iters"]).rates)
    with jax.enable_x64(True):
        for count, *expected in table["rows"]:
            found = rates(np.int64(count))
            np.testing.assert_allclose([found[first], found[second]], expected, rtol=1e-11, atol=1e-18)
    found = rates(np.int32(table["rows"][-1][0]))
    np.testing.assert_allclose([found[first], found[second]], table["rows"][-1][1:], rtol=2e-5)


def test_linear_warmup():
    """Of all groups, up to the schedule's own value."""
    rates = optimizer(100, name="constant", warmup__steps=4).rates
    for group in (Group("backbone", True), Group("head", False)):
        np.testing.assert_allclose([rates(k)[group] for k in range(6)], [0.25, 0.5, 0.75, 1, 1, 1])


def test_plateau_follows_the_validation_as_torch_does():
    torch = pytest.importorskip("torch")
    config = base("hrnet_w18_ocr").schedule.plateau
    config.update({"factor": 0.5, "patience": 1, "cooldown": 2, "threshold": 0.05, "min_factor": 0.2})
    reference = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        reference, mode="max", factor=0.5, patience=1, cooldown=2, threshold=0.05, min_lr=0.2
    )
    state, settings = Plateau.start(), typed({"schedule": {"plateau": config.to_dict()}}).schedule.plateau
    for score in (0.1, 0.2, 0.201, 0.205, 0.3, 0.1, 0.1, 0.1, 0.1, 0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1):
        state = state.after(score, settings)
        plateau.step(score)
        assert state.factor == pytest.approx(reference.param_groups[0]["lr"])


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match='schedule.name must be "poly", "cosine", .*found .polly.'):
        optimizer(10, name="polly")
    with pytest.raises(InputError, match='schedule.warmup.of must be "all", "backbone" or "kernels"'):
        optimizer(10, warmup__of="head")
