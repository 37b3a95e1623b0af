"""A net with a head of each kind, trained a few steps on a layout of devices. Prints their losses:

python -m tests.training.layouts SPATIAL
python -m tests.training.layouts SPATIAL COORDINATOR PROCESS_COUNT PROCESS_INDEX
"""

import json
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax import models, sharding
from openseg_jax.data.normalize import Normalization, normalize
from openseg_jax.models.layers import BatchNorm
from openseg_jax.models.segmentor import ModelSpec, Segmentor
from openseg_jax.training import step as step_module
from tests import tiny
from tests.training import runs

CROP = (512, 16)  # rows for eight devices
EXACT = Normalization(mean=(0.5,) * 3, std=(0.25,) * 3, divisor=256)  # float32 does not round it
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


def make_step(name: str, mesh, shard_optimizer: bool):
    """The training step of a net with this head."""
    recipe, backbone = models.MODELS[name], tiny.SmallBackbone(channels=(4, 8, 8, 8))
    options = {key: value for key, value in tiny.HEADS[name].items() if key != "factors"}
    options |= {"grids": (1, 6)} if name == "pyramid_ocnet" else {}  # two levels compile in half the time
    head = recipe.head.build(backbone.taps, 5, BatchNorm, **recipe.head.options | options)
    spec = ModelSpec(name, 5, "small", ("batch_norm", "batch_norm"), "float32", ())
    changes = {"loss__name": KINDS[name], "loss__ohem_threshold": 0.3, "loss__ohem_min_kept": 2000}
    changes |= {"optimizer__learning_rate": 0.01, "train__steps": 10, "mesh__shard_optimizer": shard_optimizer}
    return runs.train_step(runs.config(name, **changes), Segmentor(spec, backbone, head), mesh, EXACT)


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


def curve(name: str, mesh, steps=5, shard_optimizer=False) -> list[float]:
    """The loss at each step, in float64, where rounding can neither make a difference nor hide one."""
    in_float64 = mock.patch.object(step_module, "normalize", lambda *inputs: normalize(*inputs).astype(jnp.float64))
    with in_float64, jax.enable_x64(True):
        step = make_step(name, mesh, shard_optimizer)
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
    losses = {name: curve(name, mesh, shard_optimizer=spatial == "2") for name in KINDS}
    print(json.dumps({"layout": mesh.devices.shape, "losses": losses}))
