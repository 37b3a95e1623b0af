"""`python train.py --config=configs/camvid.py:hrnet_w18_ocr`: see openseg_jax/recipes/camvid.py."""

from openseg_jax.recipes.camvid import get_config as get_config
