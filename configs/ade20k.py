"""`python train.py --config=configs/ade20k.py:hrnet_w48_ocr,ohem`: see openseg_jax/recipes/ade20k.py."""

from openseg_jax.recipes.ade20k import get_config as get_config
