"""Small data sets on disk."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = {
    "title": "shapes",
    "void": [255],
    "classes": [{"name": "ground", "id": 3}, {"name": "bar", "id": 7, "color": [200, 0, 0]}, {"name": "spot", "id": 9}],
}


def write(root: Path, counts=(6, 4), sizes=((40, 56), (33, 64), (48, 48))) -> Path:
    """ROOT/{train,val}/{image,label} with images of several sizes, and ROOT/classes.json; ids as in CLASSES."""
    rng = np.random.default_rng(0)
    for split, count in zip(("train", "val"), counts, strict=True):
        for index in range(count):
            height, width = sizes[index % len(sizes)]
            mask = np.full((height, width), 3, np.uint8)
            mask[:, width // 3 : width // 2] = 7
            mask[height // 2 :, : width // 4] = 9
            mask[0] = 255
            image = (mask[..., None] * np.array([20, 9, 3]) + rng.integers(0, 60, (height, width, 3))).clip(0, 255)
            save(root / split / "image" / f"scene{index}.png", image.astype(np.uint8))
            save(root / split / "label" / f"scene{index}.png", mask)
    (root / "classes.json").write_text(json.dumps(CLASSES))
    return root


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
