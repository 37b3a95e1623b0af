"""Mapillary Vistas 1.1, 65 classes: what the original's best Cityscapes nets were trained on first.

    python train.py --config=configs/mapillary.py:hrnet_w48_ocr_b --workdir=DIR --config.data.root=PATH

The recipe `mapillary` of the package; openseg_jax/recipes/mapillary.py lists its options and what to expect.
"""

from openseg_jax.recipes.mapillary import get_config as get_config
