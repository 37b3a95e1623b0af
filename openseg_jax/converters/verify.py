"""Proof of an import: the same variables as the file, the same activations as PyTorch, and a report of both."""

import os
from typing import NamedTuple

import jax
import numpy as np

from openseg_jax import models
from openseg_jax.converters import rules
from openseg_jax.errors import InputError
from openseg_jax.files import read_npz
from openseg_jax.models.segmentor import Segmentor

SEED, SIZE = 0, (129, 257)  # of the input when no reference brings one: odd, so that rounding of sizes shows


class Layer(NamedTuple):
    """One row of the comparison with a reference."""

    name: str  # the original's
    shape: tuple[int, ...]  # N C H W
    largest: float  # absolute value in the reference
    difference: float  # largest absolute difference

    def diverges(self, tolerance: float) -> bool:
        return not self.difference <= tolerance * max(self.largest, 1e-6)


def fixed_input() -> np.ndarray:
    """float32 (1, H, W, 3), standard normal: numpy's PCG64(0) drawing (1, 3, H, W), as PyTorch has it."""
    drawn = np.random.Generator(np.random.PCG64(SEED)).standard_normal((1, 3, *SIZE))
    return drawn.astype(np.float32).transpose(0, 2, 3, 1)


def read_reference(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """A .npz of activations, module name -> (N, C, H, W), and "input", what the net was given, (N, 3, H, W)."""
    reference = read_npz(path)
    image = reference.get("input")
    if image is None or image.ndim != 4 or image.shape[1] != 3:
        raise InputError(f'{path} needs an array "input", the (N, 3, H, W) that the PyTorch net was given')
    return reference


def run(model: Segmentor, variables: dict, images: np.ndarray) -> tuple[dict, dict]:
    """Outputs, and the output of every module. Nets that want labels are given class 0 everywhere."""
    needs_labels = model.head is not None and model.head.needs_labels
    labels = np.zeros(images.shape[:3], np.int32) if needs_labels else None

    @jax.jit
    def both(variables, images):
        return tuple(find(model, variables, images, labels=labels) for find in (models.apply, models.activations))

    return both(variables, images)


def compare(model: Segmentor, activations: dict, reference: dict[str, np.ndarray]) -> list[Layer]:
    """In the order of the reference, all layers that both know; the others are left out."""
    known = rules.layer_names(model)
    rows = []
    for name, theirs in reference.items():
        ours = activations.get(known.get(name.removeprefix("module.")))
        if ours is None:
            continue
        ours = np.asarray(ours).transpose(0, 3, 1, 2)
        if ours.shape != theirs.shape:
            raise InputError(f"{name} is {theirs.shape} in the reference, and {ours.shape} here: another input or net?")
        largest, difference = (float(np.abs(x).max()) for x in (theirs, ours - theirs))
        rows.append(Layer(name, theirs.shape, largest, difference))
    if not rows:
        raise InputError(
            "the reference has no array named as a convolution or norm of this net, such as backbone.conv1"
        )
    return rows


def statistics(array) -> dict[str, float]:
    array = np.asarray(array, np.float64)
    return {"mean": array.mean(), "std": array.std(), "min": array.min(), "max": array.max()}


def make_report(model: Segmentor, variables: dict, outputs: dict, activations: dict, source: dict) -> dict:
    """All that `verify` writes, as JSON has it."""
    stages = {path: x for path, x in activations.items() if path.startswith("backbone.") and path.count(".") == 1}
    return {
        "source": source,
        "model": model.spec.to_dict(),
        "parameters": int(sum(x.size for x in jax.tree.leaves(variables["params"]))),
        "norm": {"backbone": model.spec.norm[0], "head": model.spec.norm[1]},
        "input": {"generator": f"PCG64({SEED})", "shape": [1, 3, *SIZE]},
        "outputs": {name: statistics(x) for name, x in outputs.items()},
        "taps": {name: statistics(x) for name, x in stages.items()},
    }
