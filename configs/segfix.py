"""`python train.py --config=configs/segfix.py:cityscapes,hrnet2x_w20`: see openseg_jax/recipes/segfix.py."""

from openseg_jax.recipes.segfix import get_config as get_config
