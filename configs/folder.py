"""`python train.py --config=configs/folder.py:hrnet_w18_ocr`: see openseg_jax/recipes/folder.py."""

from openseg_jax.recipes.folder import get_config as get_config
