"""Devices change nothing: not their number, nor how they share a batch, nor in which processes they are."""

import json
import math
import os
import re
from unittest import mock

import jax
import numpy as np

from openseg_jax import sharding
from tests import commands
from tests.training import layouts
from tests.training.test_step import Trained, batches

SHAPE = re.compile(r"= \(?(\w+)\[([\d,]*)\]\S* (all-gather|all-to-all|collective-permute)")


def start(spatial, *distributed, devices):
    # Simulated devices wait for each other in threads of one pool; with as few as devices, some programs never end.
    with mock.patch.dict(os.environ, {"NPROC": "64"}):
        return commands.start("-m", "tests.training.layouts", spatial, *distributed, devices=devices)


def losses_of(process, layout):
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    found = json.loads(out.splitlines()[-1])
    assert tuple(found["layout"]) == layout
    return found["losses"]


def test_every_head_learns_alike_on_any_devices():
    """Layouts 4x2 and 1x8, and two processes of jax.distributed with half of every batch each, against 8x1."""
    assert layouts.CROP[0] >= 8 * sharding.MIN_ROWS  # so that rows are split
    running = {(8, 1): start(1, devices=8), (4, 2): start(2, devices=8)}
    found = {layout: losses_of(process, layout) for layout, process in running.items()}
    pair = [start(1, "127.0.0.1:29533", 2, index, devices=1) for index in range(2)]
    found |= {f"process {index}": losses_of(process, (2, 1)) for index, process in enumerate(pair)}
    found[1, 8] = losses_of(start(8, devices=8), (1, 8))
    for layout, losses in found.items():
        for name, expected in found[8, 1].items():
            rtol = 1e-8 if name == "segfix_hrnet" else 1e-9  # its class weights are float32
            np.testing.assert_allclose(losses[name], expected, rtol=rtol, err_msg=f"{layout}, {name}")


def test_no_feature_map_is_gathered():
    """HRNet with OCR, the rows of each image on two devices: borders are exchanged, whole maps are not."""
    mesh = sharding.make_mesh(spatial=2)
    trained = Trained(mesh, crop=(128, 32), steps=1, name="hrnet_w18_ocr", loss__name="aux_ohem")
    batch = sharding.put_batch(mesh, next(batches(1, (128, 32))))
    text = trained.step.compiled.lower(trained.step.arguments, batch).compile().as_text()
    found = [(kind, [*map(int, shape.split(","))]) for _, shape, kind in SHAPE.findall(text)]
    assert {kind for kind, _ in found} == {"collective-permute", "all-gather"}
    # Of a batch norm, a few values of each channel and device.
    assert all(math.prod(shape[:-1]) <= mesh.size for kind, shape in found if kind == "all-gather")
    alone = Trained(crop=(128, 32), steps=1, name="hrnet_w18_ocr", loss__name="aux_ohem")
    np.testing.assert_allclose(trained.losses, alone.losses, rtol=1e-5)


def test_optimizer_state_is_divided():
    mesh = sharding.make_mesh()
    whole, divided = (Trained(mesh, steps=2, mesh__shard_optimizer=shard, train__ema=0.9) for shard in (False, True))
    np.testing.assert_allclose(divided.losses, whole.losses, rtol=1e-6)

    def on_one_device(tree):
        return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))

    for part in ("opt_state", "ema"):
        assert on_one_device(getattr(divided.state, part)) < 0.3 * on_one_device(getattr(whole.state, part))
    assert on_one_device(divided.state.params) == on_one_device(whole.state.params)
