"""LIP, 20 classes of human parsing: the original's recipes, on images resized to 473x473."""

from openseg_jax.recipes.lip import get_config as get_config
