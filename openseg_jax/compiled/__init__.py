"""Programs compiled for a GPU that need not be there: how much memory, how many kernels, how many bytes."""

from openseg_jax.compiled.child import compile_program as compile_program
from openseg_jax.compiled.targets import TARGETS as TARGETS
from openseg_jax.compiled.targets import installed as installed
