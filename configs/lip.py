"""LIP, 20 classes of human parsing: the original's recipes, on images resized to 473x473.

    python train.py --config=configs/lip.py:hrnet_w48_ocr --workdir=DIR --config.data.root=PATH

The recipe `lip` of the package; openseg_jax/recipes/lip.py lists its options and what to expect.
"""

from openseg_jax.recipes.lip import get_config as get_config
