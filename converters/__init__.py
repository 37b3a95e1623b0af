"""`openseg_jax.converters`, under the name it has at the top of the repository."""

from openseg_jax.converters import *  # noqa: F403
from openseg_jax.converters import __all__
