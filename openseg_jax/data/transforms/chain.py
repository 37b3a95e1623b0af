"""The transforms and the collation of training, from the `augment` settings of a config."""

from collections.abc import Callable

from openseg_jax.config import AugmentSettings
from openseg_jax.data.collate import Collate
from openseg_jax.data.transforms import random_transforms as T
from openseg_jax.labels.classes import ClassTable

# The names that `augment.chain` may have.
CHAIN: dict[str, Callable[[AugmentSettings, ClassTable], T.Transform]] = {
    "resize": lambda c, classes: T.Resize(c.resize.size or None, c.resize.min_side, c.resize.bound),
    "random_resize": lambda c, classes: T.RandomResize(c.scale, c.aspect),
    "random_crop": lambda c, classes: T.RandomCrop(*c.crop),
    "center_crop": lambda c, classes: T.CenterCrop(*c.crop),
    "random_flip": lambda c, classes: T.RandomFlip(classes.flip_pairs, c.flip, c.legacy_angle),
    "random_rotate": lambda c, classes: T.RandomRotate(c.rotate),
    "random_brightness": lambda c, classes: T.RandomBrightness(c.brightness),
    "random_contrast": lambda c, classes: T.RandomContrast(c.contrast),
    "random_saturation": lambda c, classes: T.RandomSaturation(c.saturation),
    "random_hue": lambda c, classes: T.RandomHue(c.hue),
    "random_permute": lambda c, classes: T.RandomPermute(),
    "random_blur": lambda c, classes: T.RandomBlur(c.blur),
}


def make_chain(settings: AugmentSettings, classes: ClassTable) -> T.Compose:
    """Returns the training transforms; the class table says which classes exchange names in a mirror."""
    return T.Compose(tuple(CHAIN[name](settings, classes) for name in settings.chain))


def make_collate(settings: AugmentSettings) -> Collate:
    """Returns how the samples of a training batch get their common size, by default that of the crop."""
    c = settings.collate
    return Collate(c.mode, c.size or settings.crop, c.sizes, c.align, c.place, c.stride)
