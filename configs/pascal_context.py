"""PASCAL-Context, 59 classes: the original's recipes, on images whose shorter side is 520."""

from openseg_jax.recipes.pascal_context import get_config as get_config
