"""Inference over images of any sizes with few compiled programs: `Runner` yields what readers make of each image."""

from openseg_jax.inference.readers import ArgMax as ArgMax
from openseg_jax.inference.readers import ConfusionCounts as ConfusionCounts
from openseg_jax.inference.readers import Offsets as Offsets
from openseg_jax.inference.readers import Probabilities as Probabilities
from openseg_jax.inference.readers import Reader as Reader
from openseg_jax.inference.readers import Refined as Refined
from openseg_jax.inference.runner import Item as Item
from openseg_jax.inference.runner import Runner as Runner
from openseg_jax.inference.runner import fold as fold
