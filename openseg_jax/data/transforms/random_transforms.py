"""Random transforms: which pure function to apply, with which arguments.

What is drawn depends on the size of a sample and on a numpy Generator only, never on pixels. So draws can be recorded,
replayed, and made where the pixels are not. Their order is that of the original: with the original's random numbers
they give the original's samples.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable

import numpy as np

from openseg_jax.data.transforms import functions
from openseg_jax.data.transforms.functions import Sample, size_of

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Step:
    """A pure function with its arguments."""

    function: Callable[..., Sample]
    arguments: dict

    def __call__(self, sample: Sample) -> Sample:
        return self.function(sample, **self.arguments)

    def size_after(self, size: Size) -> Size:
        return (self.arguments["height"], self.arguments["width"]) if "height" in self.arguments else size

    def to_dict(self) -> dict:
        return {"transform": self.function.__name__, **self.arguments}


class Transform(abc.ABC):
    """Something that decides on steps. Called with a sample and a Generator, it takes them too."""

    @abc.abstractmethod
    def draw(self, size: Size, rng: np.random.Generator) -> list[Step]:
        """The steps for a sample of this (height, width); none leaves the sample as it is."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        for step in self.draw(size_of(sample), rng):
            sample = step(sample)
        return sample


@dataclasses.dataclass(frozen=True)
class Compose(Transform):
    """Transforms one after the other."""

    transforms: tuple[Transform, ...]

    def draw(self, size, rng):
        steps = []
        for transform in self.transforms:
            for step in transform.draw(size, rng):
                steps.append(step)
                size = step.size_after(size)
        return steps


# ---------------------------------------------------------------------------------------------------------------------
# Geometry


@dataclasses.dataclass(frozen=True)
class Resize(Transform):
    """To a size, or keeping the aspect ratio to a shorter or a longer side; then, if need be, down to `bound`."""

    size: Size | None = None
    min_side: int = 0
    max_side: int = 0
    bound: int = 0  # of the longer side

    def draw(self, size, rng):
        if self.size:
            height, width = self.size
        elif self.min_side:
            height, width = functions.min_side_size(*size, self.min_side)
        else:
            height, width = functions.max_side_size(*size, self.max_side)
        if self.bound and max(height, width) > self.bound:
            height, width = functions.max_side_size(height, width, self.bound)
        return [Step(functions.resize, {"height": height, "width": width})]


@dataclasses.dataclass(frozen=True)
class RandomResize(Transform):
    """Scales both sides by a random factor, and changes the aspect ratio; new sizes are rounded down.

    scales: factors of which one is drawn, instead of the range `scale`. sides: (shorter, longer); then nothing is drawn
    but the aspect ratio, and the factor is the largest that keeps both. bound: of the longer side.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    aspect: tuple[float, float] = (0.9, 1.1)
    probability: float = 1.0
    scales: tuple[float, ...] = ()
    sides: tuple[int, int] | None = None
    bound: int = 0

    def draw(self, size, rng):
        height, width = size
        if self.scales:
            factor = self.scales[int(rng.integers(0, len(self.scales) - 1, endpoint=True))]
        elif self.sides:
            factor = min(self.sides[0] / min(size), self.sides[1] / max(size))
        else:
            factor = rng.uniform(*self.scale)
        aspect = rng.uniform(*self.aspect)
        if rng.random() > self.probability:
            return []
        factors = [math.sqrt(1 / aspect) * factor, math.sqrt(aspect) * factor]
        if self.bound:
            excess = max(height * factors[0], width * factors[1]) / self.bound
            factors = [f / max(excess, 1) for f in factors]
        return [Step(functions.resize, {"height": int(height * factors[0]), "width": int(width * factors[1])})]


@dataclasses.dataclass(frozen=True)
class RandomCrop(Transform):
    """A random window of at most (height, width); smaller where the image is.

    grid: (rows, columns); then the window is one of so many evenly spaced ones.
    """

    height: int
    width: int
    probability: float = 1.0
    grid: tuple[int, int] | None = None

    def draw(self, size, rng):
        window = min(self.height, size[0]), min(self.width, size[1])
        free = size[0] - window[0], size[1] - window[1]
        if self.grid:
            rows, columns = self.grid
            left = int(rng.integers(0, columns - 1, endpoint=True)) * (free[1] // max(columns - 1, 1))
            top = int(rng.integers(0, rows - 1, endpoint=True)) * (free[0] // max(rows - 1, 1))
        else:
            left = int(rng.integers(0, free[1], endpoint=True))
            top = int(rng.integers(0, free[0], endpoint=True))
        if rng.random() > self.probability:
            return []
        return [Step(functions.crop, {"top": top, "left": left, "height": window[0], "width": window[1]})]


@dataclasses.dataclass(frozen=True)
class CenterCrop(Transform):
    """The window of at most (height, width) in the middle."""

    height: int
    width: int
    probability: float = 1.0

    def draw(self, size, rng):
        if rng.random() > self.probability:
            return []
        height, width = min(self.height, size[0]), min(self.width, size[1])
        place = {"top": (size[0] - height) // 2, "left": (size[1] - width) // 2}
        return [Step(functions.crop, place | {"height": height, "width": width})]


@dataclasses.dataclass(frozen=True)
class RandomFlip(Transform):
    """Mirrors left and right with a probability."""

    swap: tuple[tuple[int, int], ...] = ()
    probability: float = 0.5
    legacy_angle: bool = False

    def draw(self, size, rng):
        if rng.random() > self.probability:
            return []
        return [Step(functions.flip, {"swap": self.swap, "legacy_angle": self.legacy_angle})]


@dataclasses.dataclass(frozen=True)
class RandomRotate(Transform):
    """Turns by a random angle of at most `degrees`, on a canvas that holds all of the picture."""

    degrees: float = 10.0
    probability: float = 1.0
    color: tuple[float, float, float] = (0, 0, 0)

    def draw(self, size, rng):
        degrees = rng.uniform(-self.degrees, self.degrees)
        if rng.random() > self.probability:
            return []
        height, width = functions.rotated_size(*size, degrees)
        canvas = {"height": height, "width": width, "color": self.color}
        return [Step(functions.rotate, {"degrees": degrees} | canvas)]


@dataclasses.dataclass(frozen=True)
class Pad(Transform):
    """Adds so many pixels to each side; negative numbers cut off."""

    top: int
    left: int
    bottom: int
    right: int
    probability: float = 1.0
    edge: int = functions.FILLS["edge"]
    color: tuple[float, float, float] = (0, 0, 0)

    def draw(self, size, rng):
        if rng.random() > self.probability:
            return []
        height, width = size[0] + self.top + self.bottom, size[1] + self.left + self.right
        place = {"top": self.top, "left": self.left, "height": height, "width": width}
        return [Step(functions.pad, place | {"edge": self.edge, "color": self.color})]


# ---------------------------------------------------------------------------------------------------------------------
# Colour


class ColorTransform(Transform):
    """Decides whether first, and how then; what decides on places does it the other way round, as in the original."""

    probability: float

    @abc.abstractmethod
    def choose(self, rng: np.random.Generator) -> Step:
        """The step, if there is to be one."""

    def draw(self, size, rng):
        return [] if rng.random() > self.probability else [self.choose(rng)]


@dataclasses.dataclass(frozen=True)
class RandomBrightness(ColorTransform):
    """Shifts all channels by one random whole number within +-shift."""

    shift: int = 10
    probability: float = 1.0

    def choose(self, rng):
        return Step(functions.brightness, {"shift": int(rng.integers(-self.shift, self.shift, endpoint=True))})


@dataclasses.dataclass(frozen=True)
class RandomContrast(ColorTransform):
    """Multiplies all channels by one random factor."""

    factor: tuple[float, float] = (0.5, 1.5)
    probability: float = 1.0

    def choose(self, rng):
        return Step(functions.contrast, {"factor": rng.uniform(*self.factor)})


@dataclasses.dataclass(frozen=True)
class RandomSaturation(ColorTransform):
    """Multiplies the saturation by a random factor."""

    factor: tuple[float, float] = (0.5, 1.5)
    probability: float = 1.0

    def choose(self, rng):
        return Step(functions.saturation, {"factor": rng.uniform(*self.factor)})


@dataclasses.dataclass(frozen=True)
class RandomHue(ColorTransform):
    """Turns the hue by at most `degrees`."""

    degrees: float = 18
    probability: float = 1.0

    def choose(self, rng):
        return Step(functions.hue, {"degrees": rng.uniform(-self.degrees, self.degrees)})


@dataclasses.dataclass(frozen=True)
class RandomPermute(ColorTransform):
    """Puts the colour channels into a random order."""

    probability: float = 1.0

    def choose(self, rng):
        choice = int(rng.integers(0, len(functions.PERMUTATIONS) - 1, endpoint=True))
        return Step(functions.permute, {"order": functions.PERMUTATIONS[choice]})


@dataclasses.dataclass(frozen=True)
class RandomBlur(ColorTransform):
    """Gaussian blur of a random width, in pixels."""

    sigma: tuple[float, float] = (0.1, 2.0)
    probability: float = 0.5

    def choose(self, rng):
        return Step(functions.blur, {"sigma": rng.uniform(*self.sigma)})
