"""What a training step costs the host: the time until the call returns, for a net without its arithmetic.

    python -m benchmarks.step_overhead
    python -m benchmarks.step_overhead --model hrnet_w18_ocr

The state has all arrays of the model with momentum, each of one number, and the program adds 1 to each of them: what
remains is to pass the arrays in and out, to put a batch on the device, and to read the metrics of the step before. The
typed `TrainState`, the list of its leaves, and the packed list that `TrainStep` passes take turns.
"""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from openseg_jax import models, sharding
from openseg_jax.config import Config
from openseg_jax.data.normalize import Normalization
from openseg_jax.training.step import TrainStep


def measure(name: str, repeats: int) -> list[dict]:
    model, mesh = models.create(name, 19), sharding.make_mesh(devices=jax.devices()[:1])
    step = TrainStep(Config(), model, Normalization(), mesh)
    batch = {"image": np.zeros((8, 64, 64, 3), np.uint8), "label": np.zeros((8, 64, 64), np.uint8)}

    def program(state, batch):
        return jax.tree.map(lambda x: x + jnp.ones((), x.dtype), state), {"loss": jnp.sum(batch["image"])}

    forms = {"TrainState": step.shapes, "list of leaves": jax.tree.leaves(step.shapes), "packed": step.arguments}
    runs, states, metrics, times = {}, {}, dict.fromkeys(forms), {form: [] for form in forms}
    for form, shapes in forms.items():
        places = jax.tree.map(lambda s: s.sharding, shapes), sharding.replicated(mesh)
        runs[form] = jax.jit(program, donate_argnums=0, out_shardings=places)
        states[form] = jax.tree.map(lambda s: jax.device_put(np.zeros(1, s.dtype), s.sharding), shapes)
    for _ in range(repeats + 3):
        for form, run in runs.items():
            jax.block_until_ready(states[form])
            start = time.perf_counter()
            previous = metrics[form]
            states[form], metrics[form] = run(states[form], sharding.put_batch(mesh, batch))
            jax.device_get(previous)
            times[form].append(1000 * (time.perf_counter() - start))
    device = jax.devices()[0].device_kind
    return [
        {
            "state as": form,
            "arrays": len(jax.tree.leaves(forms[form])),
            "device": device,
            "median ms": statistics.median(found[3:]),
            "min ms": min(found[3:]),
        }
        for form, found in times.items()
    ]


if __name__ == "__main__":
    parser = harness.parser(__doc__)
    parser.add_argument("--model", default="hrnet_w48_ocr")
    a = parser.parse_args()
    harness.report(f"host time of a step, {a.model}", measure(a.model, max(a.repeats, 50)), a.out)
