"""SegFix, which learns where boundaries are and which way leads off them: the original's recipes."""

from openseg_jax.recipes.segfix import get_config as get_config
