"""`python train.py --config=configs/coco_stuff.py:hrnet_w48_ocr,ohem`: see openseg_jax/recipes/coco_stuff.py."""

from openseg_jax.recipes.coco_stuff import get_config as get_config
