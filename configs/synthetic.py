"""`python train.py --config=configs/synthetic.py`: see openseg_jax/recipes/synthetic.py."""

from openseg_jax.recipes.synthetic import get_config as get_config
