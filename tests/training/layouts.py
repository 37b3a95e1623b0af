"""A net with a head of every kind, trained a few steps on a layout of devices. Prints its losses:

python -m tests.training.layouts SPATIAL
python -m tests.training.layouts SPATIAL COORDINATOR PROCESS_COUNT PROCESS_INDEX
"""

import json
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax import losses, models, sharding
from openseg_jax.config import LossSettings
from openseg_jax.data.normalize import normalize
from openseg_jax.models.layers import BatchNorm
from openseg_jax.models.segmentor import Head, ModelSpec, Segmentor
from openseg_jax.training import step as step_module
from tests import tiny
from tests.training import runs

CROP = (512, 16)  # rows for eight devices
KINDS = {
    "hrnet_w48_ocr": "aux_ohem",
    "base_ocnet": "aux_ce",
    "pyramid_ocnet": "aux_ce",
    "asp_ocnet": "aux_ohem",
    "isanet": "aux_ce",
    "ideal_spatial_ocrnet": "aux_ce",
    "ce2p_asp_ocrnet": "ce2p",
    "fcnet": "aux_ce",
    "segfix_hrnet": "segfix",
}


class AllHeads(Head):
    """Outputs are named KIND.OUTPUT. The heads run one after the other: XLA's simulated devices wait for each other in
    threads, of which too many collectives at a time leave none.
    """

    needs_labels = True

    def __init__(self, taps, num_classes, norm):
        for name in KINDS:
            recipe = models.MODELS[name]
            options = {key: value for key, value in tiny.HEADS[name].items() if key != "factors"}
            setattr(self, name, recipe.head.build(taps, num_classes, norm, **recipe.head.options | options))

    def __call__(self, taps, *, labels, train, rngs=None):
        outputs = {}
        for name in KINDS:
            head = getattr(self, name)
            told = {"labels": labels} if head.needs_labels else {}
            found = head(taps, train=train, **told)
            outputs |= {f"{name}.{key}": x for key, x in found.items()}
            after = 0 * sum(jnp.sum(x.values) for x in found.values())
            taps = jax.tree.map(lambda x, after=after: x + after, taps)
        return outputs


def make_step(mesh, config):
    """The training step of all heads on one backbone."""
    spec, backbone = ModelSpec("all", 5, "small", ("batch_norm", "batch_norm"), "float32", ()), tiny.SmallBackbone()
    model = Segmentor(spec, backbone, AllHeads(backbone.taps, 5, BatchNorm))
    step = runs.train_step(config, model, mesh)
    parts = {}
    for name, kind in KINDS.items():
        parts[name] = losses.build(LossSettings(name=kind, ohem_threshold=0.3, ohem_min_kept=2000))

    def loss(outputs, targets):
        total = 0
        for name, part in parts.items():
            own = {key.partition(".")[2]: x for key, x in outputs.items() if key.startswith(f"{name}.")}
            if name == "segfix_hrnet":
                own = {key: x.low for key, x in own.items()}
            total += part(own, targets)
        return total

    step._loss = loss
    return step


def batches(count, size=8):
    rng = np.random.default_rng(0)
    for _ in range(count):
        label = rng.integers(0, 5, (size, *CROP)).astype(np.uint8)
        label[:, :3] = 255
        yield {
            "image": rng.integers(0, 256, (size, *CROP, 3)).astype(np.uint8),
            "label": label,
            "box": np.tile(np.array([[2, 0, CROP[0] - 2, CROP[1]]], np.int32), (size, 1)),
            "distance": rng.integers(0, 12, (size, *CROP)).astype(np.int32),
            "angle": rng.uniform(-180, 180, (size, *CROP)),
        }


def curve(mesh, steps=5, shard_optimizer=False) -> list[float]:
    """The sum of all losses at each step, in float64, where rounding can neither make a difference nor hide one."""
    config = runs.config(optimizer__learning_rate=0.01, train__steps=10, mesh__shard_optimizer=shard_optimizer)
    in_float64 = mock.patch.object(step_module, "normalize", lambda *inputs: normalize(*inputs).astype(jnp.float64))
    with in_float64, jax.enable_x64(True):
        step = make_step(mesh, config)
        variables = jax.tree.map(lambda x: np.asarray(x, np.float64), models.init(step.model))
        leaves = runs.begin(step, variables)
        values = []
        for batch in batches(steps):
            rows = len(batch["label"]) // jax.process_count()
            first = rows * jax.process_index()
            own = {key: value[first : first + rows] for key, value in batch.items()}
            leaves, metrics = step(leaves, sharding.put_batch(mesh, own))
            values.append(float(metrics["loss"]))
    return values


if __name__ == "__main__":
    spatial, *distributed = sys.argv[1:]
    if distributed:
        coordinator, count, index = distributed
        sharding.join_processes(coordinator, int(count), int(index))
    mesh = sharding.make_mesh(int(spatial))
    print(json.dumps({"layout": mesh.devices.shape, "losses": curve(mesh, shard_optimizer=spatial == "2")}))
