"""Building turns the archives that benchmarks publish into ArrayRecord files, which `data.records` reads."""

from openseg_jax.data.building.datasets import BUILDERS
from openseg_jax.data.building.writer import build

__all__ = ["BUILDERS", "build"]
