"""Learning-rate schedules, as factors of the base rate: functions of the number of updates done before.

The first update is made at factor(0), the last at factor(steps - 1), which none of them takes to zero.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax.errors import InputError

Factor = Callable[[jax.Array | int], jax.Array]


def poly(steps: int, power: float) -> Factor:
    """(1 - k / steps)^power."""
    return lambda k: ((steps - k) / steps) ** power  # 1 - k / N would lose the last updates' digits


def cosine(steps: int) -> Factor:
    """(1 + cos(pi k / steps)) / 2."""
    return lambda k: jnp.sin(jnp.pi / 2 * ((steps - k) / steps)) ** 2  # the same, with all digits near the end


def step(step_size: int, gamma: float) -> Factor:
    """gamma^floor(k / step_size)."""
    return lambda k: gamma ** jnp.asarray(k // step_size, float)


def multistep(milestones: tuple[int, ...], gamma: float) -> Factor:
    """gamma^(number of milestones <= k)."""
    return lambda k: gamma ** jnp.sum(jnp.asarray(milestones) <= k).astype(float)


def constant() -> Factor:
    return lambda k: jnp.ones(())


def swa_parts(steps: int) -> tuple[int, int]:
    """The update after which weights are averaged, three quarters of all, and how many there are between snapshots."""
    start = int(0.75 * steps)
    return start, (steps - start) // 5 + 1


def swa(steps: int, of: Callable[[int], Factor]) -> Factor:
    """A schedule over the first three quarters, then again and again over the time between two snapshots, from half.

    (Izmailov et al., UAI 2018, arXiv:1803.05407.) of: makes the schedule of a number of steps.
    """
    start, cycle = swa_parts(steps)
    before, after = of(start), of(cycle)
    return lambda k: jnp.where(k < start, before(jnp.minimum(k, start)), 0.5 * after(jnp.maximum(k - start, 0) % cycle))


def make_factor(config, steps: int) -> Factor:
    """config: the `schedule` part of a training config."""
    makers = {
        "poly": lambda: poly(steps, config.power),
        "cosine": lambda: cosine(steps),
        "step": lambda: step(config.step_size, config.gamma),
        "multistep": lambda: multistep(tuple(config.milestones), config.gamma),
        "constant": constant,
        "plateau": constant,  # what it follows is not known before: `after_validation`
        "swa_poly": lambda: swa(steps, lambda n: poly(n, 0.9)),
        "swa_cosine": lambda: swa(steps, cosine),
    }
    if config.name not in makers:
        raise InputError(f"unknown schedule {config.name!r}; there are {', '.join(makers)}")
    return makers[config.name]()


def warmup(config, count) -> jax.Array:
    """The factor of the groups that `config.of` names, for the update that follows `count`.

    ((k + 1) / steps)^power while k < steps, or with `freeze` 0; then 1.
    """
    if not config.steps:
        return jnp.ones(())
    rising = jnp.zeros(()) if config.freeze else (jnp.minimum(count + 1, config.steps) / config.steps) ** config.power
    return jnp.where(count < config.steps, rising, 1.0)


# ---------------------------------------------------------------------------------------------------------------------
# The schedule that follows the validation


def plateau_state() -> dict[str, np.ndarray]:
    """factor: of the learning rate; best: the best score; bad: validations since then; cooldown: those yet to skip."""
    return {"factor": np.float32(1), "best": np.float32(-np.inf), "bad": np.int32(0), "cooldown": np.int32(0)}


def after_validation(config, state: dict, score: float) -> dict[str, np.ndarray]:
    """The state after a validation: torch's ReduceLROnPlateau, of a score that should grow.

    config: the `schedule.plateau` part of a training config. After `patience` validations in a row that were not
    better than the best by its `threshold`-th part, the factor falls, and `cooldown` validations do not count.
    """
    factor, best, bad, cooldown = (np.asarray(state[key]).item() for key in ("factor", "best", "bad", "cooldown"))
    better = best == -np.inf or score > best * (1 + config.threshold)
    best, bad = (score, 0) if better else (best, bad + 1)
    if cooldown > 0:
        cooldown, bad = cooldown - 1, 0
    if bad > config.patience:
        factor, cooldown, bad = max(factor * config.factor, config.min_factor), config.cooldown, 0
    return {
        "factor": np.float32(factor),
        "best": np.float32(best),
        "bad": np.int32(bad),
        "cooldown": np.int32(cooldown),
    }
