"""Devices change nothing: not their number, nor how they share a batch, nor in which processes they are."""

import json
import re

import jax
import numpy as np

from openseg_jax import sharding
from tests import commands
from tests.training import layouts
from tests.training.test_step import Trained, batches

SHAPE = re.compile(r"= \(?(\w+)\[([\d,]*)\]\S* (all-gather|all-to-all|collective-permute)")


def test_every_head_learns_alike_on_any_devices():
    """Layouts 4x2 and 1x8, and two processes of jax.distributed with half of every batch each, against 8x1."""
    arguments = ["-m", "tests.training.layouts", "--coordinator=127.0.0.1:29533", "--process_count=2"]
    pair = [commands.start(*arguments, f"--process_index={index}") for index in range(2)]
    expected = layouts.curve(sharding.make_mesh())
    for spatial in (2, 8):
        mesh = sharding.make_mesh(spatial=spatial)
        assert mesh.devices.shape == (8 // spatial, spatial)
        assert sharding.splits_rows(mesh, layouts.CROP[0])
        np.testing.assert_allclose(layouts.curve(mesh, shard_optimizer=spatial == 2), expected, rtol=1e-9)
    for process in pair:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        np.testing.assert_allclose(json.loads(out.splitlines()[-1]), expected, rtol=1e-9)


def test_no_feature_map_is_gathered():
    """HRNet with OCR, the rows of each image on two devices: borders are exchanged, whole maps are not."""
    mesh = sharding.make_mesh(spatial=2)
    trained = Trained(mesh, crop=(128, 32), steps=1, name="hrnet_w18_ocr", loss__name="aux_ohem")
    batch = sharding.put_batch(mesh, next(batches(1, (128, 32))))
    text = trained.step.compiled.lower(jax.tree.leaves(trained.step.shapes), batch).compile().as_text()
    found = [(kind, shape) for _, shape, kind in SHAPE.findall(text)]
    assert {kind for kind, _ in found} == {"collective-permute"}
    alone = Trained(crop=(128, 32), steps=1, name="hrnet_w18_ocr", loss__name="aux_ohem")
    np.testing.assert_allclose(trained.losses, alone.losses, rtol=1e-5)


def test_optimizer_state_is_divided():
    mesh = sharding.make_mesh()
    whole, divided = (Trained(mesh, steps=2, mesh__shard_optimizer=shard, train__ema=0.9) for shard in (False, True))
    np.testing.assert_allclose(divided.losses, whole.losses, rtol=1e-6)

    def on_one_device(tree):
        return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))

    for part in ("opt_state", "ema"):
        assert on_one_device(divided.state[part]) < 0.3 * on_one_device(whole.state[part])
    assert on_one_device(divided.state["params"]) == on_one_device(whole.state["params"])
