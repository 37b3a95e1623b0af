"""Chains of transforms from a config: the names in `augment.chain`, in this order."""

from __future__ import annotations

from collections.abc import Callable

from openseg_jax.data.collate import Collate
from openseg_jax.data.transforms import random_transforms as T
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable

# Each takes the `augment` part of a config and the class table.
CHAIN: dict[str, Callable[..., T.Transform]] = {
    "resize": lambda c, classes: T.Resize(tuple(c.resize.size) or None, c.resize.min_side, bound=c.resize.bound),
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


def make_chain(config, classes: ClassTable) -> T.Compose:
    """The training transforms. config: the `augment` part of a config."""
    unknown = [name for name in config.chain if name not in CHAIN]
    if unknown:
        raise InputError(f"augment.chain has no transform {unknown[0]!r}: choose from {', '.join(CHAIN)}")
    if "resize" in config.chain and not (config.resize.size or config.resize.min_side):
        raise InputError("resize in augment.chain needs augment.resize.size or augment.resize.min_side")
    return T.Compose(tuple(CHAIN[name](config, classes) for name in config.chain))


def make_collate(config) -> Collate:
    """How the samples of a training batch get their common size: that of the crop, unless told otherwise."""
    c = config.collate
    sizes = tuple(map(tuple, c.sizes))
    if c.mode not in ("fix_size", "multi_size"):
        raise InputError(
            f'augment.collate.mode is "fix_size" or "multi_size" in training, found {c.mode!r}: every other size of a '
            "batch would be one more program to compile"
        )
    return Collate(c.mode, tuple(c.size) or tuple(config.crop), sizes, c.align, c.place, c.stride)
