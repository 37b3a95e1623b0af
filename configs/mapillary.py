"""`python train.py --config=configs/mapillary.py:hrnet_w48_ocr_b`: see openseg_jax/recipes/mapillary.py."""

from openseg_jax.recipes.mapillary import get_config as get_config
