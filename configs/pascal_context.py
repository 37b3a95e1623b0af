"""`python train.py --config=configs/pascal_context.py:hrnet_w48_ocr`: see openseg_jax/recipes/pascal_context.py."""

from openseg_jax.recipes.pascal_context import get_config as get_config
