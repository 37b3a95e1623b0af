"""A data set that needs no download: scenes of overlapping textured shapes with exact masks, made in memory.

A class is a texture. Its colour is only a hint, drawn from a range of hues that overlaps those of two other classes,
and its shape says nothing; scale and angle of the texture, light and noise vary. So a net needs both colour and a
receptive field of many pixels, and does not get far with either alone.
"""

import colorsys

import cv2
import numpy as np

from openseg_jax.data.maps import Maps
from openseg_jax.labels.classes import IGNORE, ClassTable

TEXTURES = ("ground", "stripes", "checker", "dots", "rings", "speckle")

SYNTHETIC_CLASSES = ClassTable(
    title="synthetic textures",
    names=TEXTURES,
    colors=((120, 120, 120), (230, 80, 60), (200, 190, 50), (80, 180, 80), (70, 150, 220), (170, 90, 200)),
    ids=tuple(range(len(TEXTURES))),
    void=(IGNORE,),
)

_SPLITS = {"train": 0, "val": 1}


class SyntheticSource:
    """A source of synthetic scenes; scene i of a split is a function of (seed, split, i) alone.

    source[i] is {"image": uint8 (H, W, 3) RGB, "label": uint8 (H, W), "name": str, ...}; outlines are void (255).

    Args:
        split: "train" or "val".
        count: The number of scenes.
        size: The (height, width) of every scene.
        **maps: `maps` and `offset_folder` of `maps.Maps`, which adds further maps to each sample.
    """

    classes = SYNTHETIC_CLASSES

    def __init__(self, split: str, count: int, size: tuple[int, int], seed: int = 0, **maps):
        self.split, self.scene_size, self.seed = split, tuple(size), seed
        self.names = [f"{split}_{index:05d}" for index in range(count)]
        self.further = Maps(self.classes, **maps)

    def __len__(self) -> int:
        return len(self.names)

    def size(self, index: int) -> tuple[int, int]:
        return self.scene_size

    def stamps(self) -> list[int]:
        """Returns what the scenes depend on."""
        return [self.seed, len(self.names), *self.scene_size]

    def __getitem__(self, index: int) -> dict:
        rng = np.random.default_rng([self.seed, _SPLITS[self.split], index])
        height, width = self.scene_size
        image = np.broadcast_to(rng.uniform(60, 190, 3), (height, width, 3)).copy()
        label = np.zeros((height, width), np.uint8)
        for _ in range(rng.integers(6, 12)):
            class_id = int(rng.integers(1, len(TEXTURES)))
            shape = _shape(rng, height, width)
            x, y, w, h = cv2.boundingRect(shape)
            if w == 0:  # all of the shape lies outside the scene
                continue
            box = slice(y, y + h), slice(x, x + w)
            inside = shape[box] > 0
            image[box][inside] = _texture(rng, class_id, h, w)[inside]
            label[box][inside] = class_id
            cv2.drawContours(label, cv2.findContours(shape, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], -1, IGNORE)
        light = cv2.resize(rng.uniform(0.75, 1.15, (2, 2)).astype(np.float32), (width, height))
        image = image * light[..., None] + rng.normal(0, 8, (height, width, 1))
        name = self.names[index]
        sample = {"image": np.clip(image, 0, 255).astype(np.uint8), "label": label, "name": name}
        return sample | self.further(name, label)


def _shape(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draws uint8 (H, W) that is 1 inside a random ellipse or polygon."""
    mask = np.zeros((height, width), np.uint8)
    centre = rng.uniform((0, 0), (width, height))
    radius = rng.uniform(0.12, 0.32) * min(height, width)
    if rng.random() < 0.4:
        axes = (int(radius), int(radius * rng.uniform(0.5, 1)))
        cv2.ellipse(mask, centre.astype(int).tolist(), axes, rng.uniform(0, 180), 0, 360, 1, -1)
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
        corners = centre + radius * 1.2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
    return mask


def _texture(rng: np.random.Generator, class_id: int, height: int, width: int) -> np.ndarray:
    """Draws the pattern of a class in a light and a dark colour, float (H, W, 3) in 0..255."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 12)
    u = (x * np.cos(angle) + y * np.sin(angle)) / period
    v = (y * np.cos(angle) - x * np.sin(angle)) / period
    pattern = {
        "stripes": lambda: u % 1 < 0.5,
        "checker": lambda: (np.floor(u) + np.floor(v)) % 2,
        "dots": lambda: np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.28,
        "rings": lambda: np.hypot(u % 2 - 1, v % 2 - 1) % 0.5 < 0.25,
        "speckle": lambda: cv2.resize(rng.random((height // 2 + 1, width // 2 + 1)), (width, height)) < 0.4,
    }[TEXTURES[class_id]]().astype(np.float32)
    hue = (class_id + rng.uniform(-0.9, 0.9)) / (len(TEXTURES) - 1)
    light, dark = (
        255 * np.array(colorsys.hsv_to_rgb(hue + rng.uniform(-0.05, 0.05), rng.uniform(0.3, 0.9), value))
        for value in (rng.uniform(0.75, 1.0), rng.uniform(0.2, 0.5))
    )
    if rng.random() < 0.5:
        light, dark = dark, light
    return light + pattern[..., None] * (dark - light)
