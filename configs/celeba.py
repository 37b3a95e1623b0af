"""CelebAMask-HQ, 19 classes of face parsing: the original's recipes, at 512x512."""

from openseg_jax.recipes.celeba import get_config as get_config
