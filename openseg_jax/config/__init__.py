"""Configs: their schema, the check at the entrance, and the typed object that the rest of the package takes."""

from openseg_jax.config import schema
from openseg_jax.config.check import typed
from openseg_jax.config.load import changed_fields, load, recipes
from openseg_jax.config.schema import *  # noqa: F403

__all__ = ["changed_fields", "load", "recipes", "typed", *schema.__all__]
