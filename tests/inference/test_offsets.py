"""Offsets of a SegFix net, against the original's tester and one by one."""

import numpy as np
import pytest

from openseg_jax.data.sources import ArraySource
from openseg_jax.errors import InputError
from openseg_jax.inference import Offsets
from tests import tiny
from tests.conftest import golden
from tests.inference.test_protocols import config, run, segfix_stand_in

Z = golden("offset_tester.npz")


def found(model, variables, images, **changes):
    _, items = run(model, variables, config(**changes), ArraySource(images), offsets=Offsets())
    return [items[index]["offsets"] for index in range(len(images))]


@pytest.mark.parametrize(
    ("case", "changes"), [("ss", {}), ("sscrop", {"protocol": "crops", "crop": (32, 40), "crop_stride": (10, 13)})]
)
def test_offsets_equal_the_originals(case, changes):
    images = [Z[f"in_bgr_{index}"][..., ::-1] for index in range(2)]
    for index, offsets in enumerate(found(*segfix_stand_in(), images, **changes)):
        assert offsets.dtype == np.int8
        np.testing.assert_array_equal(offsets, Z[f"{case}__mat_{index}"])


def test_mixed_sizes_are_as_alone():
    """In one program, whole or in windows; of a net with 16 directions, whose steps are up to two pixels."""
    model = tiny.create("segfix_hrnet", backbone="hrnet48", num_directions=16)
    variables, rng = tiny.random_variables(model), np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3)).astype(np.uint8) for h, w in ((40, 64), (57, 33), (64, 41))]
    for changes in ({}, {"protocol": "crops", "crop": (32, 32), "crop_stride": (16, 16)}):
        together = found(model, variables, images, max_buckets=1, **changes)
        assert max(abs(x).max() for x in together) == 2
        for image, offsets in zip(images, together, strict=True):
            (alone,) = found(model, variables, [image], exact_shapes=True, batch_size=1, **changes)
            assert (alone != offsets).sum() <= 2, "more than a tie"


def test_wrong_nets():
    with pytest.raises(InputError, match="fcnet predicts no boundaries and directions"):
        found(tiny.create("fcnet", 3), None, [])
