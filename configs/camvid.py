"""CamVid, 11 classes, 480x360: a small driving data set, for trying things out."""

from openseg_jax.recipes.camvid import get_config as get_config
