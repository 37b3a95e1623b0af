"""SegFix, which learns where boundaries are and which direction leads off them: the original's recipes.

    python train.py --config=configs/segfix.py:cityscapes,hrnet2x_w20 --workdir=DIR --config.data.root=PATH

The recipe `segfix` of the package; openseg_jax/recipes/segfix.py lists its options and what to expect.
"""

from openseg_jax.recipes.segfix import get_config as get_config
