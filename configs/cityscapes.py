"""`python train.py --config=configs/cityscapes.py:hrnet_w48_ocr`: see openseg_jax/recipes/cityscapes.py."""

from openseg_jax.recipes.cityscapes import get_config as get_config
