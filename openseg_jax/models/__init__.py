"""Models: `create` describes one, `init` makes its variables, `apply` runs it.

    model = models.create("hrnet_w48_ocr", num_classes=19)
    variables = models.init(model, seed=0)
    logits = models.apply(model, variables, images)["out"]

Variables are plain nested dicts of arrays, {"params": ..., "batch_stats": ...}, and `apply` is a pure function of
them, to be used under jax.jit, jax.grad and friends. MODELS and BACKBONES are the tables of what exists.
"""

from openseg_jax.models.registry import BACKBONES, MODELS, create, default_options
from openseg_jax.models.segmentor import Segmentor
from openseg_jax.models.variables import activations, apply, folded, init, shapes

__all__ = [
    "BACKBONES",
    "MODELS",
    "Segmentor",
    "activations",
    "apply",
    "create",
    "default_options",
    "folded",
    "init",
    "shapes",
]
