"""Inference over images of any sizes with few compiled programs: `Runner` yields what readers make of each image."""

from openseg_jax.inference.readers import (
    ArgMax,
    ConfusionCounts,
    DirectionCounts,
    Offsets,
    Probabilities,
    Reader,
    Refined,
)
from openseg_jax.inference.runner import Item, Runner

__all__ = [
    "ArgMax",
    "ConfusionCounts",
    "DirectionCounts",
    "Item",
    "Offsets",
    "Probabilities",
    "Reader",
    "Refined",
    "Runner",
]
