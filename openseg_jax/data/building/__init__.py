"""From the archives that benchmarks publish to ArrayRecord files, which `openseg_jax.data.records` reads."""

from openseg_jax.data.building.build import build
from openseg_jax.data.building.datasets import BUILDERS

__all__ = ["BUILDERS", "build"]
