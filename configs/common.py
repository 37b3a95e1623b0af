"""What recipes share, for configs of your own that stand beside these: openseg_jax/recipes/common.py."""

from openseg_jax.recipes.common import Takes, base, loss_for, of_original, parse_argument

__all__ = ["Takes", "base", "loss_for", "of_original", "parse_argument"]
