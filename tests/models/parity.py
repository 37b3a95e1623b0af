"""Converted nets beside the original's recorded outputs. Prints the table of docs/parity.md:

python -m tests.models.parity
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch

import converters
from openseg_jax import models
from tests import recipe

_ABN = {"norm": "inplace_abn"}
MODELS = {
    "hrnet_w48__hrnet48__torchbn": {"name": "hrnet_w48"},
    "hrnet_w48__hrnet48__inplace_abn": {"name": "hrnet_w48", **_ABN},
    "hrnet_w48__hrnet48__torchbn_head_on_master": {"name": "hrnet_w48", "norm": ("inplace_abn", "batch_norm")},
    "hrnet_w48_ocr__hrnet48__torchbn": {"name": "hrnet_w48_ocr"},
    "hrnet_w48_ocr__hrnet48__inplace_abn": {"name": "hrnet_w48_ocr", **_ABN},
    "hrnet_w48_ocr_b__hrnet48__torchbn": {"name": "hrnet_w48_ocr_b"},
    "hrnet_w48_asp_ocr__hrnet48__torchbn": {"name": "hrnet_w48_asp_ocr"},
    "BACKBONE__hrnet18__torchbn": {"name": "hrnet18"},
    "BACKBONE__hrnet18__torchbn__drop_stage4": {"name": "hrnet18", "drop_stage4": True},
    "BACKBONE__hrnet18__torchbn__full_res_stem": {"name": "hrnet18", "full_res_stem": True},
    "BACKBONE__hrnet18__torchbn__keep_imagenet_head": {"name": "hrnet18", "keep_imagenet_head": True},
    "BACKBONE__hrnet32__torchbn": {"name": "hrnet32"},
    "BACKBONE__hrnet48__torchbn": {"name": "hrnet48"},
}
TRAIN = {
    "TRAIN__hrnet_w48__hrnet48__torchbn": {"name": "hrnet_w48"},
    "TRAIN__hrnet_w48_ocr__hrnet48__torchbn": {"name": "hrnet_w48_ocr"},
    "TRAIN__hrnet_w48_ocr__hrnet48__inplace_abn": {"name": "hrnet_w48_ocr", **_ABN},
}


def imported(name: str):
    """Model, variables, manifest and arrays of a golden; the weights come through a .pth file and the converter."""
    manifest, arrays = recipe.load(name)
    weights = recipe.state_dict(manifest["keys"], manifest["gains"])
    arguments = (MODELS | TRAIN)[name]
    model = models.create(**arguments, num_classes=None if arguments["name"] in models.BACKBONES else 19)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.pth")
        torch.save({"state_dict": {f"module.{key}": value for key, value in weights.items()}}, path)
        variables = converters.import_state_dict(converters.read_state_dict(path), model)
    return model, variables, manifest, arrays


def padded_outputs(model, variables, manifest) -> dict[str, dict[str, np.ndarray]]:
    """Outputs for the inputs A and B of a golden, which differ in size, run as one padded batch."""
    a, b = (recipe.images(manifest["inputs"][tag]["seed"], manifest["inputs"][tag]["shape"]) for tag in "AB")
    images = [*a, *b]
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    batch = np.zeros((len(images), height, width, 3), np.float32)
    for row, image in zip(batch, images, strict=True):
        row[: image.shape[0], : image.shape[1]] = image
    sizes = jnp.array([image.shape[:2] for image in images])
    outputs = jax.jit(lambda v, x, sizes: models.apply(model, v, x, sizes=sizes))(variables, batch, sizes)
    split = {"A": slice(len(a)), "B": slice(len(a), None)}
    return {tag: {key: np.asarray(x)[rows] for key, x in outputs.items()} for tag, rows in split.items()}


def compare(manifest, arrays, tag: str, outputs: dict) -> dict[str, float]:
    """Largest absolute error of each output, over all recorded values and the mean and deviation of all values."""
    errors = {}
    for expected in manifest["outputs"][tag]:
        n, c, h, w = expected["stride"]
        height, width = expected["shape"][2:]  # what lies beyond is padding
        ours = np.asarray(outputs[expected["name"]])[:, :height, :width].transpose(0, 3, 1, 2)
        recorded = arrays[f"{tag}.{expected['name']}"]
        statistics = ours.mean() - expected["mean"], ours.std() - expected["std"]
        errors[expected["name"]] = float(max(np.abs(ours[::n, ::c, ::h, ::w] - recorded).max(), *np.abs(statistics)))
    return errors


def main() -> None:
    print("| golden | parameters | largest value | max. abs. error |\n|---|---|---|---|")
    for name in MODELS:
        model, variables, manifest, arrays = imported(name)
        outputs = padded_outputs(model, variables, manifest)
        error = max(max(compare(manifest, arrays, tag, outputs[tag]).values()) for tag in "AB")
        largest = max(np.abs(arrays[key]).max() for key in arrays if key.count(".") == 1)
        size = sum(x.size for x in jax.tree.leaves(variables["params"]))
        print(f"| `{name}` | {size:,} | {largest:.1f} | {error:.1e} |", flush=True)


if __name__ == "__main__":
    main()
