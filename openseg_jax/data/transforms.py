"""Augmentation as pure functions of one sample, equal to the original's where the original is right.

A sample is {"image": uint8 (H, W, 3) RGB, "label": uint8 (H, W) train ids, ...}; the label may be missing. Further maps
of the size of the label travel along: "edge" uint8, "distance" int32 (pixels to the boundary), "angle" float64 (the
direction (sin, cos) = (down, right), -180 to 180 degrees). Sizes are (height, width) everywhere.
"""

import functools
import math
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from openseg_jax.labels.classes import IGNORE

Sample = dict
Size = tuple[int, int]

# The values of maps outside the image.
FILLS = {"label": IGNORE, "edge": 0, "distance": 255, "angle": 0.0, "depth": 63.0, "offsets": 0}

PERMUTATIONS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


class Step(functools.partial):
    """A pure function of a sample with its arguments: Step(resize, height=20, width=30)."""

    def size_after(self, size: Size) -> Size:
        """Returns the (height, width) of a sample of this size after the step."""
        return (self.keywords["height"], self.keywords["width"]) if "height" in self.keywords else size

    def to_dict(self) -> dict:
        """Returns the name of the function and its arguments."""
        return {"transform": self.func.__name__, **self.keywords}


def apply(steps: Iterable[Step], sample: Sample) -> Sample:
    """Takes the steps one after the other."""
    for step in steps:
        sample = step(sample)
    return sample


def size_of(sample: Sample) -> Size:
    """Returns the (height, width) of a sample."""
    return sample["image"].shape[:2]


def _on_maps(sample: Sample, function) -> Sample:
    """Applies function(array, name) to each map of the sample."""
    return {name: function(sample[name], name) for name in FILLS if name in sample}


def resize(sample: Sample, height: int, width: int) -> Sample:
    """Resizes the image with OpenCV's cubic interpolation and the maps by nearest neighbour, with their values kept."""
    resized = cv2.resize(sample["image"], (width, height), interpolation=cv2.INTER_CUBIC)
    return sample | _nearest(sample, height, width) | {"image": resized}


def scale(sample: Sample, height: int, width: int) -> Sample:
    """Resizes the image bilinearly with aligned corners, as the original's collate function does; maps by nearest."""
    image = sample["image"]
    for axis, (n_in, n_out) in enumerate(zip(size_of(sample), (height, width), strict=True)):
        source = np.arange(n_out, dtype=np.float32) * np.float32((n_in - 1) / (n_out - 1) if n_out > 1 else 0)
        low = np.minimum(source.astype(int), n_in - 1)
        share = (source - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        below, above = image.take(low, axis), image.take(np.minimum(low + 1, n_in - 1), axis)
        image = below * (1 - share) + above * share
    if sample["image"].dtype == np.uint8:
        image = np.rint(image)
    return sample | _nearest(sample, height, width) | {"image": image.astype(sample["image"].dtype)}


def _nearest(sample: Sample, height: int, width: int) -> Sample:
    return _on_maps(
        sample, lambda x, name: cv2.resize(x, (width, height), interpolation=cv2.INTER_NEAREST).astype(x.dtype)
    )


def crop(sample: Sample, top: int, left: int, height: int, width: int) -> Sample:
    """Cuts out a window that lies within the sample."""
    window = slice(top, top + height), slice(left, left + width)
    return sample | _on_maps(sample, lambda x, name: x[window]) | {"image": sample["image"][window]}


def pad(sample: Sample, top: int, left: int, height: int, width: int) -> Sample:
    """Places the sample on a canvas of another size; a negative top or left, or a small canvas, cuts off.

    The result has "box", int32 (top, left, height, width), the part of the canvas that is real. Around it maps have the
    values of `FILLS`, and the image is 0, which `normalize` replaces by the mean.
    """
    h, w = size_of(sample)
    first = max(top, 0), max(left, 0)
    last = min(top + h, height), min(left + w, width)
    target = slice(first[0], last[0]), slice(first[1], last[1])
    window = slice(first[0] - top, last[0] - top), slice(first[1] - left, last[1] - left)

    def place(x: np.ndarray, name: str) -> np.ndarray:
        if (top, left, height, width) == (0, 0, h, w):
            return x
        canvas = np.full((height, width, *x.shape[2:]), FILLS.get(name, 0), x.dtype)
        canvas[target] = x[window]
        return canvas

    box = np.array([*first, last[0] - first[0], last[1] - first[1]], np.int32)
    return sample | _on_maps(sample, place) | {"image": place(sample["image"], "image"), "box": box}


def flip(sample: Sample, swap: Sequence[tuple[int, int]] = (), legacy_angle: bool = False) -> Sample:
    """Mirrors left and right, directions included.

    `swap` are pairs of classes that exchange names in a mirror, for example left arm and right arm. `legacy_angle`
    leaves directions of exactly 0 and 180 degrees as they are, as the original does.
    """
    exchanged = exchange_table(swap)

    def mirror(x: np.ndarray, name: str) -> np.ndarray:
        x = x[:, ::-1]
        if name == "label" and swap:
            return exchanged[x]
        if name != "angle":
            return x
        mirrored = np.where(x < 0, -180 - x, 180 - x)
        return np.where((x == 0) | (abs(x) == 180), x, mirrored) if legacy_angle else mirrored

    return sample | _on_maps(sample, mirror) | {"image": sample["image"][:, ::-1]}


def exchange_table(swap: Sequence[tuple[int, int]]) -> np.ndarray:
    """Returns uint8 (256,), the train id of each train id after the classes of each pair have exchanged names."""
    exchanged = np.arange(256, dtype=np.uint8)
    for a, b in swap:
        exchanged[[a, b]] = exchanged[[b, a]]
    return exchanged


def rotate(sample: Sample, degrees: float, height: int, width: int) -> Sample:
    """Turns the sample counter-clockwise about its centre, onto a canvas of the size that `rotated_size` returns.

    The image is interpolated linearly and maps by nearest neighbour. The corners are filled as by `pad`.
    """
    h, w = size_of(sample)
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), degrees, 1)
    matrix[:, 2] = matrix[:, 2] + ((width - w) / 2, (height - h) / 2)

    def turn(x: np.ndarray, name: str) -> np.ndarray:
        # OpenCV wants the fill as a scalar and warps integers of at most 16 bits.
        narrow = x.astype(np.int16) if name == "distance" else x
        turned = cv2.warpAffine(narrow, matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=FILLS[name])
        if name == "angle":
            turned = (turned - degrees + 180) % 360 - 180
        return turned.astype(x.dtype)

    image = cv2.warpAffine(sample["image"], matrix, (width, height), flags=cv2.INTER_LINEAR)
    return sample | _on_maps(sample, turn) | {"image": image}


def rotated_size(height: int, width: int, degrees: float) -> Size:
    """Returns the size of the canvas that holds all of a turned image."""
    sin, cos = abs(math.sin(math.radians(degrees))), abs(math.cos(math.radians(degrees)))
    return int(height * cos + width * sin), int(height * sin + width * cos)


def brightness(sample: Sample, shift: int) -> Sample:
    """Adds one number to all channels and clips to 0..255."""
    return _through_table(sample, np.arange(256) + shift)


def contrast(sample: Sample, factor: float) -> Sample:
    """Multiplies all channels, rounds down and clips to 0..255."""
    return _through_table(sample, np.arange(256, dtype=np.float32) * np.float32(factor))


def _through_table(sample: Sample, table: np.ndarray) -> Sample:
    """Replaces each of the 256 values by a number that is clipped to 0..255."""
    return sample | {"image": cv2.LUT(np.ascontiguousarray(sample["image"]), np.clip(table, 0, 255).astype(np.uint8))}


def saturation(sample: Sample, factor: float) -> Sample:
    """Multiplies the saturation and rounds down."""
    hsv = cv2.cvtColor(sample["image"].astype(np.float32), cv2.COLOR_RGB2HSV)
    hsv[..., 1] *= np.float32(factor)
    return sample | {"image": _from_hsv(hsv)}


def hue(sample: Sample, degrees: float) -> Sample:
    """Turns the hue by an angle and rounds down."""
    hsv = cv2.cvtColor(sample["image"].astype(np.float32), cv2.COLOR_RGB2HSV)
    hsv[..., 0] += np.float32(degrees)
    hsv[..., 0][hsv[..., 0] > 360] -= 360
    hsv[..., 0][hsv[..., 0] < 0] += 360
    return sample | {"image": _from_hsv(hsv)}


def _from_hsv(hsv: np.ndarray) -> np.ndarray:
    return np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), 0, 255).astype(np.uint8)


def permute(sample: Sample, order: tuple[int, int, int]) -> Sample:
    """Puts the colour channels into another order."""
    return sample | {"image": sample["image"][..., list(order)]}


def blur(sample: Sample, sigma: float) -> Sample:
    """Blurs with a Gaussian of standard deviation `sigma`, in pixels."""
    return sample | {"image": cv2.GaussianBlur(sample["image"], (0, 0), sigma)}


def min_side_size(height: int, width: int, min_side: int) -> Size:
    """Returns the size whose shorter side is `min_side`; the other side is rounded half to even."""
    ratio = min_side / min(height, width)
    return round(height * ratio), round(width * ratio)


def max_side_size(height: int, width: int, max_side: int) -> Size:
    """Returns the size whose longer side is `max_side`; the other side is rounded half to even."""
    ratio = max_side / max(height, width)
    return round(height * ratio), round(width * ratio)
