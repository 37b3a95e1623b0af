"""The transforms and the collation of training, from the `augment` settings of a config."""

from __future__ import annotations

from collections.abc import Callable

from openseg_jax.config import AugmentSettings
from openseg_jax.data.collate import Collate
from openseg_jax.data.transforms import random_transforms as T
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable

# The names that `augment.chain` may have.
CHAIN: dict[str, Callable[[AugmentSettings, ClassTable], T.Transform]] = {
    "resize": lambda c, classes: T.Resize(tuple(c.resize.size) or None, c.resize.min_side, c.resize.bound),
    "random_resize": lambda c, classes: T.RandomResize(tuple(c.scale), tuple(c.aspect)),
    "random_crop": lambda c, classes: T.RandomCrop(*c.crop),
    "center_crop": lambda c, classes: T.CenterCrop(*c.crop),
    "random_flip": lambda c, classes: T.RandomFlip(classes.flip_pairs, c.flip, c.legacy_angle),
    "random_rotate": lambda c, classes: T.RandomRotate(c.rotate),
    "random_brightness": lambda c, classes: T.RandomBrightness(c.brightness),
    "random_contrast": lambda c, classes: T.RandomContrast(tuple(c.contrast)),
    "random_saturation": lambda c, classes: T.RandomSaturation(tuple(c.saturation)),
    "random_hue": lambda c, classes: T.RandomHue(c.hue),
    "random_permute": lambda c, classes: T.RandomPermute(),
    "random_blur": lambda c, classes: T.RandomBlur(tuple(c.blur)),
}


def make_chain(settings: AugmentSettings, classes: ClassTable) -> T.Compose:
    """Returns the training transforms.

    Args:
        settings: The `augment` settings of a config.
        classes: The class table, whose `flip_pairs` exchange names in a mirror.
    """
    unknown = [name for name in settings.chain if name not in CHAIN]
    if unknown:
        raise InputError(f"augment.chain has no transform {unknown[0]!r}: choose from {', '.join(CHAIN)}")
    if "resize" in settings.chain and not (settings.resize.size or settings.resize.min_side):
        raise InputError("resize in augment.chain needs augment.resize.size or augment.resize.min_side")
    return T.Compose(tuple(CHAIN[name](settings, classes) for name in settings.chain))


def make_collate(settings: AugmentSettings) -> Collate:
    """Returns how the samples of a training batch get their common size, by default that of the crop."""
    c = settings.collate
    sizes = tuple(map(tuple, c.sizes))
    return Collate(c.mode, tuple(c.size) or tuple(settings.crop), sizes, c.align, c.place, c.stride)
