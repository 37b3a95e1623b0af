"""COCO-Stuff 10k, 171 classes: the original's recipes, on images whose shorter side is 520.

    python train.py --config=configs/coco_stuff.py:hrnet_w48_ocr,ohem --workdir=DIR --config.data.root=PATH

The recipe `coco_stuff` of the package; openseg_jax/recipes/coco_stuff.py lists its options and what to expect.
"""

from openseg_jax.recipes.coco_stuff import get_config as get_config
