"""The weight and input recipe of the model goldens; see tests/goldens/README.md."""

import gzip
import json
import zlib

import numpy as np

from tests.conftest import GOLDENS

MODELS = GOLDENS / "models"


def load(name: str) -> tuple[dict, dict]:
    """(manifest, arrays) of a model golden."""
    with gzip.open(MODELS / f"{name}.json.gz") as file:
        manifest = json.load(file)
    return manifest, dict(np.load(MODELS / f"{name}.npz"))


def state_dict(keys: list, gains: dict) -> dict:
    """PyTorch tensors: every entry drawn from its own generator, seeded by its key."""
    import torch

    counter = torch.zeros((), dtype=torch.int64)
    return {
        key: counter if kind == "num_batches_tracked" else torch.from_numpy(_draw(key, shape, kind, gains))
        for key, shape, kind in keys
    }


def _draw(key: str, shape: list[int], kind: str, gains: dict) -> np.ndarray:
    return (gains.get(kind, 1) * _standard_draw(key, shape, kind)).astype(np.float32)


def _standard_draw(key: str, shape: list[int], kind: str) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    if kind.startswith(("conv_weight", "linear_weight")):
        return rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    if kind.startswith(("bn_weight", "abn_weight")) or kind == "running_var":
        values = rng.uniform(0.5, 1.5, shape)
        if kind.startswith("abn_weight"):
            values[::3] *= -1
        return values
    assert kind in ("bn_bias", "abn_bias", "conv_bias", "linear_bias", "running_mean"), kind
    return rng.standard_normal(shape) * 0.1


def images(seed: int, shape: list[int]) -> np.ndarray:
    """float32 NHWC standard normal; shape is NCHW."""
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(np.float32).transpose(0, 2, 3, 1)
