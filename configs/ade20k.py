"""ADE20K, 150 classes: the original's recipes, on images whose shorter side is 520.

    python train.py --config=configs/ade20k.py:hrnet_w48_ocr,ohem --workdir=DIR --config.data.root=PATH

The recipe `ade20k` of the package; openseg_jax/recipes/ade20k.py lists its options and what to expect.
"""

from openseg_jax.recipes.ade20k import get_config as get_config
