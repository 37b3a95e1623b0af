"""Accumulators over images and over processes."""

import numpy as np
import pytest

from openseg_jax.metrics.boundaries import Boundaries
from openseg_jax.metrics.confusion import Confusion
from openseg_jax.metrics.directions import Directions


class Item(dict):
    """What a runner yields, of random results."""

    def __init__(self, index):
        rng = np.random.default_rng(index)
        coarse = lambda: rng.integers(0, 3, (6, 8)).repeat(5, 0).repeat(5, 1)  # noqa: E731
        right = rng.integers(0, 9, (5, 2))
        super().__init__(counts=rng.integers(0, 9, (3, 3)), labels=coarse(), directions=np.sort(right))
        self.index, self.sample = index, {"label": coarse()}


SCORES = {
    "confusion": lambda: Confusion(3, images=6),
    "boundaries": lambda: Boundaries(3, images=6),
    "directions": lambda: Directions("directions"),
}


def updated(score, indices):
    for index in indices:
        score.update(Item(index))
    return score


@pytest.mark.parametrize("name", SCORES)
def test_states_add_up(name):
    """Over processes, any number of times, and after a restart."""
    make = SCORES[name]
    whole = updated(make(), range(6))
    first, second = updated(make(), range(0, 6, 2)), updated(make(), (1, 3))
    states = []
    second.merge(lambda data: [states.append(data) or data])
    assert first.merge(lambda data: [data, *states]).summary() != whole.summary()
    updated(second, [5])
    states.clear()
    second.merge(lambda data: [states.append(data) or data])
    merged = first.merge(lambda data: [data, *states])
    assert merged.summary() == whole.summary()
    resumed = make()
    resumed.restore(first.state())
    assert updated(resumed, (1, 3, 5)).summary() == whole.summary()
    for part, array in whole.state().items():
        np.testing.assert_array_equal(merged.state()[part], array)
