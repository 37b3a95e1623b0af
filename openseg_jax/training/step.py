"""One training step: a pure function of (state, batch), compiled once."""

from __future__ import annotations

from collections.abc import Callable

import jax
import optax
from jax.sharding import Mesh

from openseg_jax import models, sharding
from openseg_jax.data.classes import to_labels
from openseg_jax.data.normalize import Normalization, normalize


def make_state(variables: dict, optimizer: optax.GradientTransformation) -> dict:
    """{"step", "params", "batch_stats", "opt_state"}: all that a run is, apart from its config and its data."""
    return {"step": 0, **variables, "opt_state": optimizer.init(variables["params"])}


def make_train_step(
    model: models.Segmentor,
    loss: Callable,
    optimizer: optax.GradientTransformation,
    normalization: Normalization,
    mesh: Mesh,
    seed: int,
) -> Callable[[dict, dict], tuple[dict, dict]]:
    """(state, batch) -> (state, {"loss", "gradient_norm"}); the given state is consumed.

    Randomness (dropout) is a function of (seed, step), so a resumed run draws what an uninterrupted one would have.
    """

    def step(state: dict, batch: dict) -> tuple[dict, dict]:
        images = normalize(batch["image"], batch["box"], normalization)
        rng = jax.random.fold_in(jax.random.key(seed), state["step"])
        told = to_labels(batch["label"]) if model.head.needs_labels else None

        def compute_loss(params):
            variables = {"params": params, "batch_stats": state["batch_stats"]}
            outputs, batch_stats = models.apply(model, variables, images, train=True, rngs=rng, labels=told)
            return loss(outputs, batch["label"]), batch_stats

        (value, batch_stats), gradients = jax.value_and_grad(compute_loss, has_aux=True)(state["params"])
        updates, opt_state = optimizer.update(gradients, state["opt_state"], state["params"])
        new_state = {
            "step": state["step"] + 1,
            "params": optax.apply_updates(state["params"], updates),
            "batch_stats": batch_stats,
            "opt_state": opt_state,
        }
        return new_state, {"loss": value, "gradient_norm": optax.tree.norm(gradients)}

    everywhere = sharding.replicated(mesh)
    return jax.jit(step, donate_argnums=0, out_shardings=(everywhere, everywhere))
