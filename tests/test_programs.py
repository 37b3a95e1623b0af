"""Programs are lowered from a config alone."""

import jax
import pytest

from openseg_jax import sharding
from openseg_jax.config import typed
from openseg_jax.errors import InputError
from openseg_jax.programs import PROGRAMS, lower
from tests.training import runs

SEGFIX = {"data__maps": ("offset",), "loss__name": "segfix"}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("changes", [{}, SEGFIX], ids=["classes", "boundaries"])
def test_every_program_is_lowered(program, changes):
    config = typed(runs.config("segfix_hrnet" if changes else "spatial_ocrnet", **changes))
    lowered = lower(config, program, sharding.make_mesh(), size=(40, 72))
    shapes = {x.shape for x in jax.tree.leaves(lowered.in_avals)}
    size = (32, 48) if program == "train" else (40, 72)
    assert (8, *size) in shapes


def test_the_largest_of_several_sizes_counts():
    sizes = {"mode": "multi_size", "sizes": ((32, 32), (40, 64)), "stride": 16, "align": "only_scale"}
    config = runs.config()
    config.augment.collate.update(sizes)
    lowered = lower(typed(config), "train", sharding.make_mesh())
    assert (8, 48, 64, 3) in {x.shape for x in jax.tree.leaves(lowered.in_avals)}


def test_what_does_not_fit_is_one_sentence():
    mesh, config = sharding.make_mesh(), typed(runs.config())
    with pytest.raises(InputError, match=r"^the program is one of train, eval, refine, found predict$"):
        lower(config, "predict", mesh)
    config = typed(runs.config(eval__batch_size=6))
    with pytest.raises(InputError, match=r"^eval.batch_size of 6 cannot be spread evenly over 4 devices"):
        lower(config, "refine", mesh)
