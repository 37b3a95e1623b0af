"""Cityscapes, 19 classes: the original's recipes, crops of 512x1024, tested at 1024x2048."""

from openseg_jax.recipes.cityscapes import get_config as get_config
