"""`python train.py --config=configs/celeba.py:hrnet_w48_ocr`: see openseg_jax/recipes/celeba.py."""

from openseg_jax.recipes.celeba import get_config as get_config
