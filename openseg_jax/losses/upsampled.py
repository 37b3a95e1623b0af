"""Logits at the resolution of a head, standing for their enlargement to the size of the labels."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from openseg_jax.models.layers import Canvas, FeatureMap
from openseg_jax.models.resize import bilinear, bilinear_taps, interpolate

# How many enlarged logits a band holds; 32 MiB in float32, times the replicas of a loss.
_BAND = 2**23


@functools.partial(jax.tree_util.register_dataclass, data_fields=["low"], meta_fields=["size"])
@dataclasses.dataclass(frozen=True)
class Upsampled:
    """Logits that stand for their bilinear enlargement with aligned corners.

    Losses enlarge them band by band, and again in the backward pass: at 520x520, batch 16 and 150 classes the enlarged
    logits would take 2.6 GB, and their softmax and their gradient as much again, each.

    Attributes:
        low: (N, h, w, K) floats.
        size: The (height, width) of the enlargement.
    """

    low: jax.Array
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.low.shape[0], *self.size, self.low.shape[-1])

    @property
    def dtype(self):
        return self.low.dtype

    def full(self) -> jax.Array:
        """Returns the enlarged logits (N, H, W, K)."""
        return bilinear(FeatureMap(self.low), to=Canvas(*self.size)).values


Logits = jax.Array | Upsampled


def map_pixels(function: Callable, logits: Logits, labels: jax.Array) -> jax.Array:
    """Applies a function of single pixels to enlarged logits, band by band.

    `function` maps logits (N, H, w, K) and labels (N, H, w) to (N, H, w). A band is a group of columns, because rows
    may be spread over devices.
    """
    if not isinstance(logits, Upsampled):
        return function(logits, labels)
    n, height, width, channels = logits.shape
    bands = -(-n * height * width * channels // _BAND)
    if bands == 1:
        return function(logits.full(), labels)
    low, columns = logits.low, -(-width // bands)
    labels = jnp.pad(labels, ((0, 0), (0, 0), (0, bands * columns - width)))

    @jax.checkpoint
    def one(low, start):
        taps = bilinear_taps(start + jnp.arange(columns), jnp.int32(low.shape[2]), width, align_corners=True)
        band = Upsampled(interpolate(low, *taps, 2), (height, columns))
        return function(band.full(), jax.lax.dynamic_slice_in_dim(labels, start, columns, axis=2))

    found = jax.lax.map(functools.partial(one, low), columns * jnp.arange(bands))
    return jnp.moveaxis(found, 0, 2).reshape(n, height, bands * columns)[:, :, :width]
