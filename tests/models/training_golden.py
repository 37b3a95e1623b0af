"""A training step beside the original's recorded one. By itself, for nets that take the memory of a process alone:

python -m tests.models.training_golden NAME
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax import converters, models
from openseg_jax.losses import cross_entropy
from tests import recipe
from tests.conftest import forget_programs
from tests.models.parity import imported


def check(name: str) -> None:
    """Loss, norm of every gradient, batch statistics. Computed in float64, like the golden.

    In float32 the rounding of 300 convolutions decides the sign of single activations near 0, and one such ReLU moves
    gradient norms by 1e-3: that of XLA's convolutions as much as that of torch's (docs/parity.md).
    """
    model, variables, manifest, arrays = imported(name)
    images = recipe.images(manifest["input"]["seed"], manifest["input"]["shape"])
    labels = arrays["label"].astype(np.int32)
    told = labels if model.head.needs_labels else None

    def compute(params):
        outputs, stats = models.apply(
            model, {"params": params, "batch_stats": batch_stats}, images, train=True, labels=told
        )
        if "mask" in outputs:
            mask = jnp.where(labels < 0, -1, labels % 2)
            losses = (
                cross_entropy(outputs["mask"], mask, ignore=-1),
                cross_entropy(outputs["direction"], labels, ignore=-1),
            )
            return sum(losses), stats
        parts = {key: cross_entropy(x, labels, ignore=-1) for key, x in outputs.items()}
        return parts["out"] + 0.4 * parts.get("aux", 0), stats

    with jax.enable_x64(True):
        images = jnp.asarray(images, jnp.float64)
        params, batch_stats = (
            jax.tree.map(lambda x: x.astype(jnp.float64), variables.pop(part)) for part in ("params", "batch_stats")
        )
        if "hrnet" not in name:
            (loss, stats), gradients = jax.jit(jax.value_and_grad(compute, has_aux=True))(params)
        else:  # operation by operation, and in two parts: as one program these take a minute, and more than 3 GB
            forget_programs()
            loss, backward, stats = jax.vjp(compute, params, has_aux=True)
            del params
            forget_programs()
            (gradients,) = backward(jnp.ones_like(loss))
            del backward
        forget_programs()
        found = converters.export_state_dict({"params": gradients, "batch_stats": stats}, model)
        del gradients

    np.testing.assert_allclose(loss, manifest["loss"], rtol=1e-5)
    norms = np.array([np.linalg.norm(found[key].double().numpy()) for key in manifest["params"]])
    np.testing.assert_allclose(norms, arrays["grad_l2"], rtol=1e-3, atol=1e-6)
    assert not any(found[key].any() for key in manifest["without_gradient"])
    summaries = [(np.linalg.norm(x), x.mean()) for x in (found[key].double().numpy() for key in manifest["stats"])]
    np.testing.assert_allclose(summaries, arrays["stats_l2_mean"], rtol=1e-5, atol=1e-5)
    for key, expected in arrays.items():
        kind, _, entry = key.partition(".")
        if kind == "bn":
            np.testing.assert_allclose(found[entry], expected, atol=1e-5, err_msg=entry)
        elif kind == "grad":
            np.testing.assert_allclose(found[entry], expected, atol=1e-3 * np.abs(expected).max(), err_msg=entry)


if __name__ == "__main__":
    check(sys.argv[1])
