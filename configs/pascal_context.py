"""PASCAL-Context, 59 classes: the original's recipes, on images whose shorter side is 520.

    python train.py --config=configs/pascal_context.py:hrnet_w48_ocr --workdir=DIR --config.data.root=PATH

The recipe `pascal_context` of the package; openseg_jax/recipes/pascal_context.py lists its options and what to expect.
"""

from openseg_jax.recipes.pascal_context import get_config as get_config
