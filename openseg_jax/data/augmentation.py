"""The random transforms of training, which draw the arguments of pure functions.

What is drawn depends only on the size of a sample and on a numpy Generator, never on pixels. So draws can be recorded,
replayed, and made where the pixels are not. Their order is the original's: with its random numbers the samples are its
samples. For this the transforms also draw the number with which the original decides whether to act, although its
recipes always do.
"""

import dataclasses
import math

import numpy as np

from openseg_jax.config import AugmentSettings
from openseg_jax.config.schema import LARGEST_SIDE
from openseg_jax.data import transforms
from openseg_jax.data.transforms import Size, Step
from openseg_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Augmentation(AugmentSettings):
    """Draws the steps that augment a sample; `swap` are pairs of classes that exchange names in a mirror."""

    swap: tuple[tuple[int, int], ...] = ()

    def draw(self, size: Size, rng: np.random.Generator) -> list[Step]:
        """Returns the steps for a sample of this (height, width), those of `chain` one after the other."""
        steps = []
        for name in self.chain:
            step = TRANSFORMS[name](self, size, rng)
            if step is not None:
                steps.append(step)
                size = step.size_after(size)
                if max(size) > LARGEST_SIDE:
                    raise InputError(
                        f"{name} of augment.chain makes an image of {size[0]}x{size[1]} (height x width), and the "
                        f"largest side may have {LARGEST_SIDE}: crop first, or bound the size"
                    )
        return steps


def resize(settings: Augmentation, size: Size, rng: np.random.Generator) -> Step:
    """Resizes to a size, or to a shorter side with the aspect ratio kept, and reduces what is longer than the bound."""
    wanted = settings.resize
    height, width = wanted.size or transforms.min_side_size(*size, wanted.min_side)
    if wanted.bound and max(height, width) > wanted.bound:
        height, width = transforms.max_side_size(height, width, wanted.bound)
    return Step(transforms.resize, height=max(height, 1), width=max(width, 1))


def random_resize(settings: Augmentation, size: Size, rng: np.random.Generator) -> Step:
    """Scales both sides by a random factor and changes the aspect ratio; the new sides are rounded down."""
    factor, aspect = rng.uniform(*settings.scale), rng.uniform(*settings.aspect)
    rng.random()
    height, width = size[0] * (math.sqrt(1 / aspect) * factor), size[1] * (math.sqrt(aspect) * factor)
    return Step(transforms.resize, height=max(int(height), 1), width=max(int(width), 1))


def random_crop(settings: Augmentation, size: Size, rng: np.random.Generator) -> Step:
    """Cuts out a random window of at most the size of the crop; where the image is smaller, so is the window."""
    height, width = map(min, settings.crop, size)
    left = int(rng.integers(0, size[1] - width, endpoint=True))
    top = int(rng.integers(0, size[0] - height, endpoint=True))
    rng.random()
    return Step(transforms.crop, top=top, left=left, height=height, width=width)


def center_crop(settings: Augmentation, size: Size, rng: np.random.Generator) -> Step:
    """Cuts out the window of at most the size of the crop in the middle."""
    rng.random()
    height, width = map(min, settings.crop, size)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return Step(transforms.crop, top=top, left=left, height=height, width=width)


def random_flip(settings: Augmentation, size: Size, rng: np.random.Generator) -> Step | None:
    """Mirrors left and right with a probability."""
    if rng.random() > settings.flip:
        return None
    return Step(transforms.flip, swap=settings.swap, legacy_angle=settings.legacy_angle)


def random_rotate(settings: Augmentation, size: Size, rng: np.random.Generator) -> Step:
    """Turns by a random angle, onto a canvas that holds all of the image."""
    degrees = rng.uniform(-settings.rotate, settings.rotate)
    rng.random()
    height, width = transforms.rotated_size(*size, degrees)
    return Step(transforms.rotate, degrees=degrees, height=height, width=width)


# Transforms of colours draw whether to act before the arguments, which geometry draws first, as in the original.


def random_brightness(settings: Augmentation, size: Size, rng: np.random.Generator) -> Step:
    """Shifts all channels by one random whole number."""
    rng.random()
    shift = int(rng.integers(-settings.brightness, settings.brightness, endpoint=True))
    return Step(transforms.brightness, shift=shift)


def random_contrast(settings: Augmentation, size: Size, rng: np.random.Generator) -> Step:
    """Multiplies all channels by one random factor."""
    rng.random()
    return Step(transforms.contrast, factor=rng.uniform(*settings.contrast))


def random_saturation(settings: Augmentation, size: Size, rng: np.random.Generator) -> Step:
    """Multiplies the saturation by a random factor."""
    rng.random()
    return Step(transforms.saturation, factor=rng.uniform(*settings.saturation))


def random_hue(settings: Augmentation, size: Size, rng: np.random.Generator) -> Step:
    """Turns the hue by a random angle."""
    rng.random()
    return Step(transforms.hue, degrees=rng.uniform(-settings.hue, settings.hue))


def random_permute(settings: Augmentation, size: Size, rng: np.random.Generator) -> Step:
    """Puts the colour channels into a random order."""
    rng.random()
    choice = int(rng.integers(0, len(transforms.PERMUTATIONS) - 1, endpoint=True))
    return Step(transforms.permute, order=transforms.PERMUTATIONS[choice])


def random_blur(settings: Augmentation, size: Size, rng: np.random.Generator) -> Step | None:
    """Blurs every second image with a Gaussian of a random width."""
    return None if rng.random() > 0.5 else Step(transforms.blur, sigma=rng.uniform(*settings.blur))


_GEOMETRY = resize, random_resize, random_crop, center_crop, random_flip, random_rotate
_COLOUR = random_brightness, random_contrast, random_saturation, random_hue, random_permute, random_blur
# By the names that `augment.chain` may have.
TRANSFORMS = {function.__name__: function for function in (*_GEOMETRY, *_COLOUR)}
