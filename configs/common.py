"""What recipes share, for configs of your own that stand beside these: openseg_jax/recipes/common.py."""

from openseg_jax.recipes.common import Takes as Takes
from openseg_jax.recipes.common import base as base
from openseg_jax.recipes.common import loss_for as loss_for
from openseg_jax.recipes.common import of_original as of_original
from openseg_jax.recipes.common import parse_argument as parse_argument
