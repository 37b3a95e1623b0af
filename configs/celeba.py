"""CelebAMask-HQ, 19 classes of face parsing: the original's recipes, at 512x512.

    python train.py --config=configs/celeba.py:hrnet_w48_ocr --workdir=DIR --config.data.root=PATH

The recipe `celeba` of the package; openseg_jax/recipes/celeba.py lists its options and what to expect.
"""

from openseg_jax.recipes.celeba import get_config as get_config
