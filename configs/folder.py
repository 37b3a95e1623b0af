"""Your own images and masks: ROOT/train/image, ROOT/train/label, ROOT/val/image, ROOT/val/label."""

from openseg_jax.recipes.folder import get_config as get_config
