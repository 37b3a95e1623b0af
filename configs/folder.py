"""Your own images and masks: ROOT/train/image, ROOT/train/label, ROOT/val/image, ROOT/val/label.

    python train.py --config=configs/folder.py:hrnet_w18_ocr --workdir=DIR --config.data.root=PATH

The recipe `folder` of the package; openseg_jax/recipes/folder.py lists its options and what to expect.
"""

from openseg_jax.recipes.folder import get_config as get_config
