"""COCO-Stuff 10k, 171 classes: the original's recipes, on images whose shorter side is 520."""

from openseg_jax.recipes.coco_stuff import get_config as get_config
