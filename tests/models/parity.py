"""Converted nets beside the original's recorded outputs. Prints the table of docs/parity.md:

python -m tests.models.parity
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch

from openseg_jax import converters, models
from tests import recipe

GOLDENS = sorted(path.name.removesuffix(".json.gz") for path in recipe.MODELS.glob("*__*.json.gz"))
TRAIN = [name for name in GOLDENS if name.startswith("TRAIN__")]
MODELS = [name for name in GOLDENS if name not in TRAIN and not name.startswith("UNIT__")]

# Options of the original that are environment variables, and its names for outputs that ours shorten.
_SWITCHES = ("drop_stage4", "full_res_stem", "keep_imagenet_head")
_OUTPUTS = {"mask_map": "mask", "dir_map": "direction"}


def arguments(manifest) -> dict:
    """Of models.create, from what a manifest says of the original."""
    norm = manifest["bn_type"].replace("torchbn", "batch_norm")
    fixed = re.fullmatch(r"hrnet\d+", manifest["backbone"]) and manifest["branch"] == "master"
    result = {"name": manifest["model"] or manifest["backbone"], "norm": ("inplace_abn" if fixed else norm, norm)}
    if manifest["model"]:
        result |= {"num_classes": manifest["num_classes"], "backbone": manifest["backbone"]}
    options = {key: manifest[key] for key in ("factors", "multi_grid") if manifest.get(key)}
    return result | options | {switch: True for switch in _SWITCHES if manifest.get("env", {}).get(switch)}


def imported(name: str):
    """Model, variables, manifest and arrays of a golden; the weights come through a .pth file and the converter."""
    manifest, arrays = recipe.load(name)
    weights = recipe.state_dict(manifest["keys"], manifest["gains"])
    model = models.create(**arguments(manifest))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.pth")
        torch.save({"state_dict": {f"module.{key}": value for key, value in weights.items()}}, path)
        del weights
        variables = converters.import_state_dict(converters.read_state_dict(path), model)
    return model, variables, manifest, arrays


def padded_outputs(model, variables, manifest, arrays, *, jit=True) -> dict[str, dict[str, np.ndarray]]:
    """Outputs for the inputs A and B of a golden, which differ in size, run as one padded batch."""
    a, b = (recipe.images(manifest["inputs"][tag]["seed"], manifest["inputs"][tag]["shape"]) for tag in "AB")
    batch = _padded([*a, *b], 0)
    labels = _padded([*arrays["A.label"], *arrays["B.label"]], -1).astype(np.int32) if "A.label" in arrays else None
    sizes = jnp.array([image.shape[:2] for image in (*a, *b)])

    def run(variables, images):
        return models.apply(model, variables, images, sizes=sizes, labels=labels)

    outputs = (jax.jit(run) if jit else run)(variables, jnp.asarray(batch))
    split = {"A": slice(len(a)), "B": slice(len(a), None)}
    return {tag: {key: np.asarray(x)[rows] for key, x in outputs.items()} for tag, rows in split.items()}


def _padded(images: list[np.ndarray], fill: float) -> np.ndarray:
    """Arrays (h, w, ...) of different sizes on one canvas."""
    canvas = np.max([image.shape[:2] for image in images], axis=0)
    batch = np.full((len(images), *canvas, *images[0].shape[2:]), fill, np.float32)
    for row, image in zip(batch, images, strict=True):
        row[: image.shape[0], : image.shape[1]] = image
    return batch


def compare(manifest, arrays, tag: str, outputs: dict) -> dict[str, float]:
    """Largest absolute error of each output, over all recorded values and the mean and deviation of all values."""
    errors = {}
    for expected in manifest["outputs"][tag]:
        n, c, h, w = expected["stride"]
        height, width = expected["shape"][2:]  # what lies beyond is padding
        name = _OUTPUTS.get(expected["name"], expected["name"])
        ours = np.asarray(outputs[name])[:, :height, :width].transpose(0, 3, 1, 2)
        recorded = arrays[f"{tag}.{expected['name']}"]
        statistics = ours.mean() - expected["mean"], ours.std() - expected["std"]
        errors[expected["name"]] = float(max(np.abs(ours[::n, ::c, ::h, ::w] - recorded).max(), *np.abs(statistics)))
    return errors


def main() -> None:
    print("| golden | parameters | largest value | max. abs. error |\n|---|---|---|---|")
    for name in MODELS:
        model, variables, manifest, arrays = imported(name)
        outputs = padded_outputs(model, variables, manifest, arrays)
        error = max(max(compare(manifest, arrays, tag, outputs[tag]).values()) for tag in "AB")
        largest = max(np.abs(arrays[key]).max() for key in arrays if key.count(".") == 1)
        size = sum(x.size for x in jax.tree.leaves(variables["params"]))
        print(f"| `{name}` | {size:,} | {largest:.1f} | {error:.1e} |", flush=True)


if __name__ == "__main__":
    main()
