"""Defines the program that is exported for a net, and compares a file with it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax import models
from openseg_jax.data.normalize import Normalization, normalize
from openseg_jax.errors import InputError

LOGIT_ERROR = "largest error relative to the largest logit"
ID_ERROR = "share of other train ids"


def output_names(model: models.Segmentor) -> tuple[str, ...]:
    """Returns the outputs that are exported: the segmentation, or the boundary mask and the directions of SegFix.

    Raises:
        InputError: The net cannot predict images alone.
    """
    if model.head is None or model.head.needs_labels:
        raise InputError(f"{model.spec.name} cannot predict images alone, so there is nothing to export")
    return (model.main_output,) if model.head.needs_classes else ("mask", "direction")


def make_logits(model: models.Segmentor, variables: dict, normalization: Normalization) -> Callable:
    """Makes the function (images, sizes) -> logits.

    It maps uint8 images (N, H, W, 3) RGB and int32 sizes (N, 2) to a tuple of float32 logits (N, H, W, K), one for each
    of `output_names`. Without sizes the images fill their whole size.
    """
    names = output_names(model)

    def logits(images: jax.Array, sizes: jax.Array | None = None) -> tuple[jax.Array, ...]:
        real = jnp.asarray([images.shape[1:3]]) if sizes is None else sizes
        normalized = normalize(images, jnp.concatenate([jnp.zeros_like(real), real], axis=1), normalization)
        found = models.apply(model, variables, normalized, sizes=sizes, upsample=True)
        return tuple(found[name] for name in names)

    return logits


def class_ids(logits: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """Returns uint8 train ids (N, H, W) for each of the logits."""
    return tuple(jnp.argmax(x, axis=-1).astype(jnp.uint8) for x in logits)


def random_images(rows: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, *size, 3)).astype(np.uint8)


def logit_error(ours, theirs) -> float:
    return max(float(np.max(np.abs(a - b)) / np.max(np.abs(a))) for a, b in zip(ours, theirs, strict=True))


def id_error(ours, theirs) -> float:
    return max(float(np.mean(np.asarray(a != b))) for a, b in zip(ours, theirs, strict=True))
