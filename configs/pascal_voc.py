"""PASCAL VOC 2012, 21 classes. The original has a loader but no recipe: this is that of PASCAL-Context."""

from openseg_jax.recipes.pascal_voc import get_config as get_config
