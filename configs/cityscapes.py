"""Cityscapes, 19 classes: the original's recipes, crops of 512x1024, tested at 1024x2048.

    python train.py --config=configs/cityscapes.py:hrnet_w48_ocr --workdir=DIR --config.data.root=PATH

The recipe `cityscapes` of the package; openseg_jax/recipes/cityscapes.py lists its options and what to expect.
"""

from openseg_jax.recipes.cityscapes import get_config as get_config
