"""A small data set of streets, and ways to spoil it."""

from pathlib import Path

import numpy as np
from PIL import Image

from openseg_jax.data.check import check_folder
from openseg_jax.labels.classes import ClassTable

STREET = {
    "title": "streets",
    "void": [255],
    "classes": [
        {"name": "sky", "color": [130, 160, 220]},
        {"name": "house", "color": [150, 100, 80]},
        {"name": "road", "color": [90, 90, 95]},
        {"name": "tree", "color": [60, 110, 50]},
        {"name": "car", "color": [190, 40, 50]},
    ],
}


def load(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        opened.load()
    return opened


class DataSet:
    """A folder and its class table, and ways to spoil them."""

    def __init__(self, root: Path, table: dict):
        self.root, self.table = root, table

    def check(self, splits=("train", "val"), **options):
        return check_folder(self.root, ClassTable.from_dict(self.table, "table"), splits, **options)

    def images(self, split="train"):
        return sorted((self.root / split / "image").iterdir())

    def masks(self, *splits):
        return [
            path for split in splits or ("train", "val") for path in sorted((self.root / split / "label").iterdir())
        ]

    def each_mask(self, change, *splits):
        """change: array -> array or image, which replaces the mask."""
        for path in self.masks(*splits):
            changed = change(np.asarray(load(path)))
            (changed if isinstance(changed, Image.Image) else Image.fromarray(changed.astype(np.uint8))).save(path)

    def remap(self, ids: dict, *splits):
        lookup = np.arange(256)
        lookup[list(ids)] = list(ids.values())
        self.each_mask(lambda mask: lookup[mask], *splits)

    @property
    def ids(self) -> list[int]:
        return [row.get("id", i) for i, row in enumerate(self.table["classes"])]

    def give_ids(self, ids, **others):
        for row, i in zip(self.table["classes"], ids, strict=True):
            row["id"] = i
        self.table.update(others)

    def colors(self) -> np.ndarray:
        """uint8 (256, 3): the colour of every id, black for void."""
        colors = np.zeros((256, 3), np.uint8)
        colors[self.ids] = [row["color"] for row in self.table["classes"]]
        return colors


def scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A street: image uint8 (72, 96, 3) and mask uint8 (72, 96)."""
    height, width = 72, 96
    mask = np.full((height, width), 0, np.uint8)
    mask[rng.integers(14, 24) :, : rng.integers(60, 90)] = 1
    mask[rng.integers(44, 52) :] = 2
    for _ in range(2):
        x, y = rng.integers(0, width - 20), rng.integers(10, 30)
        mask[y : y + rng.integers(16, 24), x : x + rng.integers(10, 20)] = 3
    x, y = rng.integers(8, width - 30), rng.integers(46, 56)
    mask[y : y + rng.integers(8, 14), x : x + rng.integers(14, 24)] = 4
    mask[:, :2] = 255
    colors = np.zeros((256, 3))
    colors[:5] = [row["color"] for row in STREET["classes"]]
    colors[:5] += rng.normal(0, 12, (5, 3))
    light = np.linspace(rng.uniform(0.7, 1), rng.uniform(0.9, 1.2), width)[None, :, None]
    noise = np.repeat(np.repeat(rng.normal(0, 14, (height // 4, width // 4, 1)), 4, 0), 4, 1)
    image = colors[mask] * light + noise + rng.normal(0, 6, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8), mask


def write(root: Path) -> None:
    """ROOT/{train,val}/{image,label} with 16 and 12 streets."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 12)):
        for folder in ("image", "label"):
            (root / split / folder).mkdir(parents=True)
        for index in range(count):
            image, mask = scene(rng)
            Image.fromarray(image).save(root / split / "image" / f"{index:02}.jpg", quality=95)
            Image.fromarray(mask).save(root / split / "label" / f"{index:02}.png")


def with_palette(mask, colors) -> Image.Image:
    shown = Image.fromarray(mask.astype(np.uint8))
    shown.putpalette(np.asarray(colors, np.uint8).tobytes())
    return shown


def blend(mask) -> Image.Image:
    small = mask.resize((mask.width // 2, mask.height // 2), Image.Resampling.BILINEAR)
    return small.resize(mask.size, Image.Resampling.BILINEAR)
