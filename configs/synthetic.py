"""The synthetic textures, made in memory: `make demo`, and the first thing to try. No download.

    python train.py --config=configs/synthetic.py --workdir=runs/demo

The recipe `synthetic` of the package; openseg_jax/recipes/synthetic.py lists its options and what to expect.
"""

from openseg_jax.recipes.synthetic import get_config as get_config
