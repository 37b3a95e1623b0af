"""From uint8 pictures to what a net reads. Runs on the device: batches travel there as uint8, a quarter of the size."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from openseg_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Normalization:
    """(pixel / divisor - mean) / std, with mean and std in the order of `channels`, "rgb" or "bgr".

    The default is that of the original's HRNet checkpoints: the ImageNet mean of red, green and blue, applied to
    pixels in the order blue, green, red. It is part of what a checkpoint has learnt.
    """

    channels: str = "bgr"
    divisor: float = 255.0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self):
        if self.channels not in ("rgb", "bgr"):
            raise InputError(f'the channel order must be "rgb" or "bgr", found {self.channels!r}')
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))

    def to_dict(self) -> dict:
        return dataclasses.asdict(self) | {"mean": list(self.mean), "std": list(self.std)}


def normalize(images: jax.Array, boxes: jax.Array, normalization: Normalization) -> jax.Array:
    """uint8 (N, H, W, 3) RGB -> float32 (N, H, W, 3), 0 (the mean colour) outside each image's real part.

    boxes: int (N, 4), (top, left, height, width) of that part.
    """
    if normalization.channels == "bgr":
        images = images[..., ::-1]
    mean, std = (jnp.asarray(x, jnp.float32) for x in (normalization.mean, normalization.std))
    normalized = (images.astype(jnp.float32) / normalization.divisor - mean) / std
    rows, columns = jnp.arange(images.shape[1])[:, None], jnp.arange(images.shape[2])[None, :]
    top, left, height, width = (boxes[:, i, None, None] for i in range(4))
    real = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    return jnp.where(real[..., None], normalized, 0)
