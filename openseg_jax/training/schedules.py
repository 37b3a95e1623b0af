"""Learning-rate schedules: factors of the base rate, as functions of the number of updates so far.

The first update uses factor(0) and the last factor(steps - 1), which no schedule takes to zero.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax.config import PlateauSettings, ScheduleSettings, WarmupSettings

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


def swa_parts(steps: int) -> tuple[int, int]:
    """Returns the update after which snapshots are taken (3/4 of all), and the updates between two of them."""
    start = int(0.75 * steps)
    return start, (steps - start) // 5 + 1


def swa(steps: int, of: Callable[[int], Factor]) -> Factor:
    """Returns a schedule of SWA (Izmailov et al., UAI 2018, arXiv:1803.05407).

    The schedule that `of` makes for a number of updates runs once over the first 3/4, then again from half the rate
    over each time between two snapshots.
    """
    start, cycle = swa_parts(steps)
    before, after = of(start), of(cycle)
    return lambda k: jnp.where(k < start, before(jnp.minimum(k, start)), 0.5 * after(jnp.maximum(k - start, 0) % cycle))


def make_factor(settings: ScheduleSettings, steps: int) -> Factor:
    """Returns the factor of a schedule over `steps` updates, without its warm-up."""
    return {
        "poly": poly(steps, settings.power),
        "cosine": cosine(steps),
        "step": step(settings.step_size, settings.gamma),
        "multistep": multistep(settings.milestones, settings.gamma),
        "constant": lambda k: jnp.ones(()),
        "plateau": lambda k: jnp.ones(()),  # its factor is not known in advance: see `Plateau`
        "swa_poly": swa(steps, lambda n: poly(n, 0.9)),
        "swa_cosine": swa(steps, cosine),
    }[settings.name]


def warmup(settings: WarmupSettings, count) -> jax.Array:
    """Returns the factor, for the update after `count` others, of the groups that `settings.of` names.

    It is ((k + 1) / steps)^power while k < steps, or 0 with `freeze`, and 1 after that.
    """
    if not settings.steps:
        return jnp.ones(())
    share = jnp.minimum(count + 1, settings.steps) / settings.steps
    rising = jnp.zeros(()) if settings.freeze else share**settings.power
    return jnp.where(count < settings.steps, rising, 1.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Plateau:
    """What torch's ReduceLROnPlateau remembers, for a score that should grow: scalars."""

    factor: jax.Array | np.float32  # of every learning rate
    best: jax.Array | np.float32  # score so far
    bad: jax.Array | np.int32  # the number of validations since the best one
    cooldown: jax.Array | np.int32  # the number of coming validations that do not count

    @classmethod
    def start(cls) -> "Plateau":
        return cls(np.float32(1), np.float32(-np.inf), np.int32(0), np.int32(0))

    def after(self, score: float, settings: PlateauSettings) -> "Plateau":
        """Returns the plateau after a validation.

        After more than `patience` validations in a row that did not exceed the best score by the share `threshold`,
        the factor falls, and the next `cooldown` validations do not count.
        """
        factor, best, bad, cooldown = (np.asarray(value).item() for value in vars(self).values())
        better = best == -np.inf or score > best * (1 + settings.threshold)
        best, bad = (score, 0) if better else (best, bad + 1)
        if cooldown > 0:
            cooldown, bad = cooldown - 1, 0
        if bad > settings.patience:
            factor, cooldown, bad = max(factor * settings.factor, settings.min_factor), settings.cooldown, 0
        return Plateau(np.float32(factor), np.float32(best), np.int32(bad), np.int32(cooldown))
