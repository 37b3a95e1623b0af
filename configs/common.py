"""What all configs share: `openseg_jax.recipes.common`, for configs of your own that stand beside these."""

from openseg_jax.recipes.common import base as base
from openseg_jax.recipes.common import loss_for as loss_for
from openseg_jax.recipes.common import start as start
