"""Random transforms, which draw the arguments of pure functions.

What is drawn depends only on the size of a sample and on a numpy Generator, never on pixels. So draws can be recorded,
replayed, and made where the pixels are not. Their order is the original's: with its random numbers the samples are its
samples. For this the transforms also draw the number with which the original decides whether to act, although its
recipes always do.
"""

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
    """A pure function of a sample with its arguments."""

    function: Callable[..., Sample]
    arguments: dict

    def __call__(self, sample: Sample) -> Sample:
        return self.function(sample, **self.arguments)

    def size_after(self, size: Size) -> Size:
        """Returns the (height, width) of a sample of this size after the step."""
        return (self.arguments["height"], self.arguments["width"]) if "height" in self.arguments else size

    def to_dict(self) -> dict:
        """Returns the name of the function and its arguments."""
        return {"transform": self.function.__name__, **self.arguments}


class Transform(abc.ABC):
    """Decides on the steps for a sample; called with a sample and a Generator, it carries them out."""

    @abc.abstractmethod
    def draw(self, size: Size, rng: np.random.Generator) -> list[Step]:
        """Returns the steps for a sample of this (height, width); no steps leave the sample as it is."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        for step in self.draw(size_of(sample), rng):
            sample = step(sample)
        return sample


@dataclasses.dataclass(frozen=True)
class Compose(Transform):
    """Applies transforms one after the other."""

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
    """Resizes to a size, or to a shorter side with the aspect ratio kept.

    Attributes:
        size: (height, width); None to use `min_side`.
        min_side: The length of the shorter side.
        bound: The longest allowed side, to which a longer image is reduced; 0 for no bound.
    """

    size: Size | None = None
    min_side: int = 0
    bound: int = 0

    def draw(self, size, rng):
        height, width = self.size or functions.min_side_size(size[0], size[1], self.min_side)
        if self.bound and max(height, width) > self.bound:
            height, width = functions.max_side_size(height, width, self.bound)
        return [Step(functions.resize, {"height": height, "width": width})]


@dataclasses.dataclass(frozen=True)
class RandomResize(Transform):
    """Scales both sides by a random factor and changes the aspect ratio; the new sides are rounded down."""

    scale: tuple[float, float] = (0.5, 2.0)
    aspect: tuple[float, float] = (0.9, 1.1)

    def draw(self, size, rng):
        factor, aspect = rng.uniform(*self.scale), rng.uniform(*self.aspect)
        rng.random()
        height, width = size[0] * (math.sqrt(1 / aspect) * factor), size[1] * (math.sqrt(aspect) * factor)
        return [Step(functions.resize, {"height": int(height), "width": int(width)})]


@dataclasses.dataclass(frozen=True)
class RandomCrop(Transform):
    """Cuts out a random window of at most (height, width); where the image is smaller, so is the window."""

    height: int
    width: int

    def draw(self, size, rng):
        window = min(self.height, size[0]), min(self.width, size[1])
        left = int(rng.integers(0, size[1] - window[1], endpoint=True))
        top = int(rng.integers(0, size[0] - window[0], endpoint=True))
        rng.random()
        return [Step(functions.crop, {"top": top, "left": left, "height": window[0], "width": window[1]})]


@dataclasses.dataclass(frozen=True)
class CenterCrop(Transform):
    """Cuts out the window of at most (height, width) in the middle."""

    height: int
    width: int

    def draw(self, size, rng):
        rng.random()
        height, width = min(self.height, size[0]), min(self.width, size[1])
        place = {"top": (size[0] - height) // 2, "left": (size[1] - width) // 2}
        return [Step(functions.crop, place | {"height": height, "width": width})]


@dataclasses.dataclass(frozen=True)
class RandomFlip(Transform):
    """Mirrors left and right with a probability; `swap` and `legacy_angle` are those of `functions.flip`."""

    swap: tuple[tuple[int, int], ...] = ()
    probability: float = 0.5
    legacy_angle: bool = False

    def draw(self, size, rng):
        if rng.random() > self.probability:
            return []
        return [Step(functions.flip, {"swap": self.swap, "legacy_angle": self.legacy_angle})]


@dataclasses.dataclass(frozen=True)
class RandomRotate(Transform):
    """Turns by a random angle of at most `degrees`, onto a canvas that holds all of the image."""

    degrees: float = 10.0

    def draw(self, size, rng):
        degrees = rng.uniform(-self.degrees, self.degrees)
        rng.random()
        height, width = functions.rotated_size(size[0], size[1], degrees)
        return [Step(functions.rotate, {"degrees": degrees, "height": height, "width": width})]


# ---------------------------------------------------------------------------------------------------------------------
# Colour


class ColorTransform(Transform):
    """Draws whether to act before the arguments, which geometry draws first, as in the original."""

    probability = 1.0

    @abc.abstractmethod
    def choose(self, rng: np.random.Generator) -> Step:
        """Returns the step, if there is to be one."""

    def draw(self, size, rng):
        return [] if rng.random() > self.probability else [self.choose(rng)]


@dataclasses.dataclass(frozen=True)
class RandomBrightness(ColorTransform):
    """Shifts all channels by one random whole number of at most `shift`."""

    shift: int = 10

    def choose(self, rng):
        return Step(functions.brightness, {"shift": int(rng.integers(-self.shift, self.shift, endpoint=True))})


@dataclasses.dataclass(frozen=True)
class RandomContrast(ColorTransform):
    """Multiplies all channels by one random factor."""

    factor: tuple[float, float] = (0.5, 1.5)

    def choose(self, rng):
        return Step(functions.contrast, {"factor": rng.uniform(*self.factor)})


@dataclasses.dataclass(frozen=True)
class RandomSaturation(ColorTransform):
    """Multiplies the saturation by a random factor."""

    factor: tuple[float, float] = (0.5, 1.5)

    def choose(self, rng):
        return Step(functions.saturation, {"factor": rng.uniform(*self.factor)})


@dataclasses.dataclass(frozen=True)
class RandomHue(ColorTransform):
    """Turns the hue by at most `degrees`."""

    degrees: float = 18

    def choose(self, rng):
        return Step(functions.hue, {"degrees": rng.uniform(-self.degrees, self.degrees)})


class RandomPermute(ColorTransform):
    """Puts the colour channels into a random order."""

    def choose(self, rng):
        choice = int(rng.integers(0, len(functions.PERMUTATIONS) - 1, endpoint=True))
        return Step(functions.permute, {"order": functions.PERMUTATIONS[choice]})


@dataclasses.dataclass(frozen=True)
class RandomBlur(ColorTransform):
    """Blurs every second image with a Gaussian of a random width, in pixels."""

    sigma: tuple[float, float] = (0.1, 2.0)
    probability = 0.5

    def choose(self, rng):
        return Step(functions.blur, {"sigma": rng.uniform(*self.sigma)})
