"""CamVid, 11 classes, 480x360: a small driving data set, for trying things out.

    python train.py --config=configs/camvid.py:hrnet_w18_ocr --workdir=DIR --config.data.root=PATH

The recipe `camvid` of the package; openseg_jax/recipes/camvid.py lists its options and what to expect.
"""

from openseg_jax.recipes.camvid import get_config as get_config
