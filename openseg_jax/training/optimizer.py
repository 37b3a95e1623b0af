"""Learning-rate schedule and optimizer of the original."""

from __future__ import annotations

import jax
import optax


def poly_schedule(base: float, steps: int, power: float) -> optax.Schedule:
    """base * (1 - k / steps)^power for the update that follows k updates: the first is at base, the last above 0."""
    return lambda count: base * ((steps - count) / steps) ** power  # 1 - k / N would lose the last updates' digits


def make_optimizer(config, schedule: optax.Schedule) -> optax.GradientTransformation:
    """SGD as torch does it; config: the `optimizer` part of a training config.

    Weight decay is L2, added to the gradient of every parameter, norms and biases included. The learning rate comes
    after the momentum. The head learns `head_multiplier` times as fast as the backbone.
    """

    def in_head(params):
        return {part: jax.tree.map(lambda _, part=part: part == "head", tree) for part, tree in params.items()}

    return optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.trace(config.momentum),
        optax.masked(optax.scale(config.head_multiplier), in_head),
        optax.scale_by_learning_rate(schedule),
    )
