"""Augmentation: pure functions on one sample, and the random transforms made of them, equal to the original's.

A sample is {"image": uint8 (H, W, 3), "label": uint8 (H, W) train ids, ...}. Sizes are (height, width) everywhere.
A random transform is called with a sample and a numpy Generator. The order of its draws is that of the original, so
that with the original's random numbers it gives the original's samples.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np

from openseg_jax.data.classes import IGNORE

Sample = dict

# ---------------------------------------------------------------------------------------------------------------------
# Pure functions


def resize(sample: Sample, height: int, width: int) -> Sample:
    """OpenCV cubic for the image, nearest for the label."""
    image = cv2.resize(sample["image"], (width, height), interpolation=cv2.INTER_CUBIC)
    label = cv2.resize(sample["label"], (width, height), interpolation=cv2.INTER_NEAREST)
    return sample | {"image": image, "label": label}


def crop(sample: Sample, top: int, left: int, height: int, width: int) -> Sample:
    window = slice(top, top + height), slice(left, left + width)
    return sample | {key: sample[key][window] for key in ("image", "label")}


def flip(sample: Sample, swap: Sequence[tuple[int, int]] = ()) -> Sample:
    """Mirrors left and right. swap: pairs of classes that exchange names then, such as left arm and right arm."""
    label = sample["label"][:, ::-1]
    if swap:
        exchanged = np.arange(256, dtype=np.uint8)
        for a, b in swap:
            exchanged[[a, b]] = exchanged[[b, a]]
        label = exchanged[label]
    return sample | {"image": sample["image"][:, ::-1], "label": label}


def brightness(sample: Sample, shift: int) -> Sample:
    """Adds one number to all channels, within 0..255."""
    image = np.clip(sample["image"].astype(np.int16) + shift, 0, 255).astype(np.uint8)
    return sample | {"image": image}


def pad(sample: Sample, top: int, left: int, height: int, width: int) -> Sample:
    """Places the sample on a larger canvas. Adds "box", int32 (top, left, height, width) of the real part.

    The label around it is 255. The image around it is 0 for now: `normalize` sets it to the mean colour.
    """
    h, w = sample["label"].shape
    image = np.zeros((height, width, 3), np.uint8)
    label = np.full((height, width), IGNORE, np.uint8)
    image[top : top + h, left : left + w] = sample["image"]
    label[top : top + h, left : left + w] = sample["label"]
    return sample | {"image": image, "label": label, "box": np.array([top, left, h, w], np.int32)}


def min_side_size(height: int, width: int, min_side: int) -> tuple[int, int]:
    """The size whose shorter side is `min_side`; rounded half to even, as Python rounds."""
    ratio = min_side / min(height, width)
    return round(height * ratio), round(width * ratio)


# ---------------------------------------------------------------------------------------------------------------------
# Random transforms


@dataclasses.dataclass(frozen=True)
class RandomResize:
    """Scales both sides by a random factor, and changes the aspect ratio; new sizes are rounded down."""

    scale: tuple[float, float] = (0.5, 2.0)
    aspect: tuple[float, float] = (0.9, 1.1)
    probability: float = 1.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        scale, aspect = rng.uniform(*self.scale), rng.uniform(*self.aspect)
        if rng.random() > self.probability:
            return sample
        height, width = sample["label"].shape
        return resize(sample, int(height * (math.sqrt(1 / aspect) * scale)), int(width * (math.sqrt(aspect) * scale)))


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """A random window of at most (height, width); smaller where the image is."""

    height: int
    width: int
    probability: float = 1.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        h, w = sample["label"].shape
        height, width = min(self.height, h), min(self.width, w)
        left = int(rng.integers(0, w - width, endpoint=True))
        top = int(rng.integers(0, h - height, endpoint=True))
        return sample if rng.random() > self.probability else crop(sample, top, left, height, width)


@dataclasses.dataclass(frozen=True)
class RandomFlip:
    """Mirrors left and right with a probability."""

    swap: tuple[tuple[int, int], ...] = ()
    probability: float = 0.5

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return sample if rng.random() > self.probability else flip(sample, self.swap)


@dataclasses.dataclass(frozen=True)
class RandomBrightness:
    """Shifts all channels by one random whole number within +-shift."""

    shift: int = 10
    probability: float = 1.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() > self.probability:
            return sample
        return brightness(sample, int(rng.integers(-self.shift, self.shift, endpoint=True)))


@dataclasses.dataclass(frozen=True)
class RandomPad:
    """Pads to exactly (height, width) with the sample at a random place; draws nothing if it has that size."""

    height: int
    width: int

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        h, w = sample["label"].shape
        top = left = 0
        if (h, w) != (self.height, self.width):
            left = int(rng.integers(0, self.width - w, endpoint=True))
            top = int(rng.integers(0, self.height - h, endpoint=True))
        return pad(sample, top, left, self.height, self.width)


@dataclasses.dataclass(frozen=True)
class Compose:
    """Transforms one after the other."""

    transforms: tuple

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        for transform in self.transforms:
            sample = transform(sample, rng)
        return sample


def cityscapes_recipe(config) -> Compose:
    """The original's training chain for Cityscapes. config: the `augment` part of a training config."""
    height, width = config.crop
    return Compose(
        (
            RandomResize(scale=tuple(config.scale), aspect=tuple(config.aspect)),
            RandomCrop(height, width),
            RandomFlip(swap=tuple(map(tuple, config.flip_swap)), probability=config.flip),
            RandomBrightness(shift=config.brightness),
            RandomPad(height, width),
        )
    )
