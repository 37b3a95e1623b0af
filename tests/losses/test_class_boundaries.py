"""The boundaries that CE2P learns, against the original's edge files."""

import numpy as np
import pytest

from openseg_jax.losses.ce2p import class_boundaries
from tests.conftest import golden

Z = golden("segfix_maps.npz")


@pytest.mark.parametrize("width", [1, 3])
def test_as_the_originals_edges(width):
    edges = class_boundaries(Z["sem_in_city_labelids"][None], width=width)
    np.testing.assert_array_equal(np.asarray(edges[0]) * 255, Z[f"edge_sem_w{width}"])
