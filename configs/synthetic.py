"""The synthetic textures, made in memory: `make demo`, and the first thing to try. No download."""

from openseg_jax.recipes.synthetic import get_config as get_config
