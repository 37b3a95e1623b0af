"""Refinement of many maps that also counts what changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from openseg_jax.segfix.refine import refine_all


class Refined(NamedTuple):
    """How many maps were refined, how many pixels they have, and how many of these changed."""

    maps: int
    pixels: int
    changed: int


def refine_and_count(
    sizes: Sequence[tuple[int, int]],
    load: Callable[[int], tuple[np.ndarray, np.ndarray]],
    save: Callable[[int, np.ndarray, int], None],
    **options,
) -> Refined:
    """As `refine_all`, but `save` is called with (index, refined labels (H, W), how many pixels of the map changed)."""
    before: dict[int, np.ndarray] = {}
    changed: dict[int, int] = {}

    def load_and_keep(index: int) -> tuple[np.ndarray, np.ndarray]:
        before[index], offsets = load(index)
        return before[index], offsets

    def count_and_save(index: int, refined: np.ndarray) -> None:
        changed[index] = int(np.count_nonzero(before.pop(index) != refined))
        save(index, refined, changed[index])

    refine_all(sizes, load_and_keep, count_and_save, **options)
    return Refined(len(sizes), sum(height * width for height, width in sizes), sum(changed.values()))
