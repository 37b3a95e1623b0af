"""HRNet, OCR, OCNet, ISA and SegFix semantic segmentation in JAX and Flax.

The names in `__all__` are the public interface. They are imported when they are first used.
"""

import importlib

__version__ = "0.2.0"
__all__ = ["Predictor", "__version__", "checkpoints", "config", "converters", "evaluate", "models", "train"]

_FUNCTIONS = {
    "Predictor": "openseg_jax.predict",
    "evaluate": "openseg_jax.evaluation.evaluate",
    "train": "openseg_jax.training.loop",
}


def __getattr__(name: str):
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    if name in __all__:
        return importlib.import_module(f"openseg_jax.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
