"""PASCAL VOC 2012, 21 classes. The original has a loader but no recipe: this is that of PASCAL-Context.

    python train.py --config=configs/pascal_voc.py:hrnet_w48_ocr --workdir=DIR --config.data.root=PATH

The recipe `pascal_voc` of the package; openseg_jax/recipes/pascal_voc.py lists its options and what to expect.
"""

from openseg_jax.recipes.pascal_voc import get_config as get_config
