"""Mapillary Vistas 1.1, 65 classes: what the original's best Cityscapes nets were trained on first."""

from openseg_jax.recipes.mapillary import get_config as get_config
