"""`python train.py --config=configs/lip.py:hrnet_w48_ocr`: see openseg_jax/recipes/lip.py."""

from openseg_jax.recipes.lip import get_config as get_config
