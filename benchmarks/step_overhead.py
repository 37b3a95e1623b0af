"""What a training step costs the host: the time until the call returns, of a net whose arithmetic is left out.

    python -m benchmarks.step_overhead
    python -m benchmarks.step_overhead --model hrnet_w18_ocr

The state has all arrays of the model with momentum, of one number each, and the program adds 1 to each of them: what is
left is passing the arrays in and out, putting a batch on the device, and reading the metrics of the step before.
"""

from __future__ import annotations

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from openseg_jax import models, sharding
from openseg_jax.data.normalize import Normalization
from openseg_jax.recipes.common import base
from openseg_jax.training.optimizer import Optimizer
from openseg_jax.training.step import TrainStep


def measure(name: str, repeats: int) -> list[dict]:
    config = base(name)
    model, mesh = models.create(name, 19), sharding.make_mesh(devices=jax.devices()[:1])
    step = TrainStep(
        model, Optimizer(config.optimizer, config.schedule, config.train.steps), Normalization(), mesh, config
    )
    batch = {"image": np.zeros((8, 64, 64, 3), np.uint8), "label": np.zeros((8, 64, 64), np.uint8)}
    rows = []
    for form in ("nested dictionaries", "list of leaves"):
        state = jax.tree.map(lambda s, p: jax.device_put(np.zeros(1, s.dtype), p), step.shapes, step.shardings)
        state = state if form == "nested dictionaries" else jax.tree.leaves(state)
        placed = jax.tree.map(lambda x: x.sharding, state)

        def program(state, batch):
            return jax.tree.map(lambda x: x + jnp.ones((), x.dtype), state), {"loss": jnp.sum(batch["image"])}

        run = jax.jit(program, donate_argnums=0, out_shardings=(placed, sharding.replicated(mesh)))
        times, metrics = [], None
        for _ in range(repeats + 3):
            jax.block_until_ready(state)
            start = time.perf_counter()
            previous = metrics
            state, metrics = run(state, sharding.put_batch(mesh, batch))
            if previous is not None:
                jax.device_get(previous)
            times.append(1000 * (time.perf_counter() - start))
        row = {"state as": form, "arrays": len(jax.tree.leaves(state)), "median ms": statistics.median(times[3:])}
        rows.append(row | {"min ms": min(times[3:])})
    return rows


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--model", default="hrnet_w48_ocr")
    a = parser.parse_args()
    harness.report(f"host time of a step, {a.model}", measure(a.model, max(a.repeats, 50)), a.out)


if __name__ == "__main__":
    main()
