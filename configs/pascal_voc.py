"""`python train.py --config=configs/pascal_voc.py:hrnet_w48_ocr`: see openseg_jax/recipes/pascal_voc.py."""

from openseg_jax.recipes.pascal_voc import get_config as get_config
