"""Normalization of uint8 images on the device, to which they travel at a quarter of the size of float32."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax.config import NormalizationSettings
from openseg_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Normalization(NormalizationSettings):
    """(pixel / divisor - mean) / std, with mean and std in the order of `channels`, "rgb" or "bgr".

    The default is that of the original's HRNet checkpoints: the ImageNet mean of red, green and blue, applied to
    pixels in the order blue, green, red. A checkpoint has learnt it, so it is stored there.
    """

    def __post_init__(self):
        if self.channels not in ("rgb", "bgr"):
            raise InputError(f'the channel order must be "rgb" or "bgr", found {self.channels!r}')
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        numbers = (*self.mean, *self.std, self.divisor)
        if (len(self.mean), len(self.std)) != (3, 3) or not all(isinstance(x, (int, float)) for x in numbers):
            raise InputError(f"a normalization has a divisor, and three means and three stds, found {vars(self)}")
        if not np.isfinite(numbers).all() or min(*self.std, self.divisor) <= 0:
            raise InputError(f"the numbers of a normalization are finite, divisor and std above 0, found {vars(self)}")


def normalize(images: jax.Array, boxes: jax.Array, normalization: Normalization) -> jax.Array:
    """Normalizes images and writes 0, the mean colour, around their real part.

    Args:
        images: uint8 (N, H, W, 3) RGB.
        boxes: int (N, 4), the real part (top, left, height, width) of each image.
        normalization: It also decides on the order of the channels of the result, float32 (N, H, W, 3).
    """
    if normalization.channels == "bgr":
        images = images[..., ::-1]
    mean, std = (jnp.asarray(x, jnp.float32) for x in (normalization.mean, normalization.std))
    normalized = (images.astype(jnp.float32) / normalization.divisor - mean) / std
    rows, columns = jnp.arange(images.shape[1])[:, None], jnp.arange(images.shape[2])[None, :]
    top, left, height, width = (boxes[:, i, None, None] for i in range(4))
    real = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    return jnp.where(real[..., None], normalized, 0)
