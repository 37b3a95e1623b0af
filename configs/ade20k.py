"""ADE20K, 150 classes: the original's recipes, on images whose shorter side is 520."""

from openseg_jax.recipes.ade20k import get_config as get_config
