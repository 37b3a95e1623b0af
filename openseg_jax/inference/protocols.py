"""Testing protocols: test-time augmentation and sliding windows. docs/protocols.md describes each.

As in the original logits are added, not probabilities, and not averaged, over scales and over an image and its mirror.
"""

import dataclasses
from collections.abc import Callable
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax.config import EvalSettings
from openseg_jax.config.schema import PROTOCOLS
from openseg_jax.errors import InputError
from openseg_jax.models import resize
from openseg_jax.models.layers import Canvas, FeatureMap

# A function from normalised images to logits (N, H, W, K) of the same size.
Net = Callable[[FeatureMap], FeatureMap]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """scales: of the images, each weighted by `scale_weights`, 1 if there are none.

    flip: the image and its mirror, in which the channels of the pairs `swap` exchange places; mean: halves their sum.
    crop: (height, width) of windows, at scales from `crop_from` on; crop_stride: between them, that of the windows
    themselves if not given, so that only the last ones overlap. Where windows overlap, their logits are averaged:
    crop_window "uniform", or "gaussian", which trusts the middle of a window more.
    by_depth: at each pixel scale i, of S in the order given, is weighted by 0.8^|i - j|, where j is the part of the
    depths 0 to 63, of S equal ones, that the pixel is in: the far is left to large scales.
    """

    scales: tuple[float, ...] = (1.0,)
    scale_weights: tuple[float, ...] = ()
    flip: bool = False
    mean: bool = False
    swap: tuple[tuple[int, int], ...] = ()
    crop: tuple[int, int] | None = None
    crop_stride: tuple[int, int] | None = None
    crop_window: str = "uniform"
    crop_from: float = 0.0
    by_depth: bool = False

    def __post_init__(self):
        if not self.scales or min(self.scales) <= 0:
            raise InputError(f"eval.scales must be numbers above 0, found {self.scales}")
        if self.scale_weights and len(self.scale_weights) != len(self.scales):
            raise InputError(f"{len(self.scales)} eval.scales have {len(self.scale_weights)} eval.scale_weights")
        if self.crop_window not in ("uniform", "gaussian"):
            raise InputError(f'eval.crop_window must be "uniform" or "gaussian", found {self.crop_window!r}')
        if self.crop_stride and not all(0 < s <= c for s, c in zip(self.crop_stride, self.crop, strict=True)):
            raise InputError(f"eval.crop_stride {self.crop_stride} leaves gaps between windows of {self.crop}")

    def logits(self, net: Net, images: FeatureMap, depth: FeatureMap | None = None) -> FeatureMap:
        """Returns the logits, float32 (N, H, W, K), of images (N, H, W, 3).

        depth: (N, H', W', 1), the depth maps of the same images, needed if `by_depth`.
        """
        total, weights = 0, self.scale_weights or (1.0,) * len(self.scales)
        if self.by_depth:
            weights = self._depth_weights(depth, images)
        for scale, weight in zip(self.scales, weights, strict=True):
            if scale == 1:
                found = self._at_scale(net, images, scale)
            else:
                scaled = resize.bilinear(images, to=_scaled(images.canvas, scale), align_corners=True)
                found = self._at_scale(net, scaled, scale)
                found = resize.bilinear(found, to=images.canvas, align_corners=True)
            total = total + weight * found.values
        return images.replace(total)

    def _depth_weights(self, depth: FeatureMap, images: FeatureMap) -> list[jax.Array]:
        count = len(self.scales)
        part = jnp.floor(depth.values / (63 // count))  # beyond the last one at the far end, as in the original
        weights = depth.replace(0.8 ** jnp.abs(part - jnp.arange(count))).zero_outside()
        return jnp.split(resize.bilinear(weights, to=images.canvas, align_corners=False).values, count, axis=-1)

    def _at_scale(self, net: Net, images: FeatureMap, scale: float) -> FeatureMap:
        if self.crop is not None and scale >= self.crop_from:
            whole, net = net, lambda x: self._in_windows(whole, x)
        if not self.flip:
            return net(images)
        extent = None if images.extent is None else jnp.tile(images.extent, (2, 1))
        both = net(FeatureMap(jnp.concatenate([images.values, mirror(images).values]), extent))
        own, mirrored = jnp.split(both.values, 2)
        back = mirror(images.replace(mirrored)).values
        if self.swap:
            order = np.arange(back.shape[-1])
            for a, b in self.swap:
                order[[a, b]] = order[[b, a]]
            back = back[..., order]
        return images.replace((own + back) / (2 if self.mean else 1))

    def _in_windows(self, net: Net, images: FeatureMap) -> FeatureMap:
        crop, stride = np.array(self.crop), np.array(self.crop_stride or self.crop)
        n, *canvas, _ = images.shape
        size = jnp.tile(jnp.array(canvas), (n, 1)) if images.extent is None else images.extent
        last = jnp.maximum(size - crop, 0)  # where the last windows begin
        rows, columns = (1 + max(-(-(side - c) // s), 0) for side, c, s in zip(canvas, crop, stride, strict=True))
        missing = [max(c - side, 0) for side, c in zip(canvas, crop, strict=True)]
        padded = jnp.pad(images.values, ((0, 0), *((0, m) for m in missing), (0, 0)))
        extent = jnp.minimum(size, crop)
        window = jax.ShapeDtypeStruct((n, *crop, 3), padded.dtype)
        shape = jax.eval_shape(lambda x: net(FeatureMap(x, extent)).values, window)
        trust = jnp.asarray(_trust(self.crop, self.crop_window))[None, :, :, None]

        def add(carry, index):
            begin = index * stride
            start = jnp.minimum(begin, last)
            counts = jnp.all(begin < last + stride, axis=1)[:, None, None, None]  # not a last window once more
            part = FeatureMap(jax.vmap(_cut, (0, 0, None))(padded, start, self.crop), extent)
            found = net(part)
            share = jnp.where(part.inside & counts, trust, 0)
            return tuple(
                jax.vmap(_added)(total, x, start) for total, x in zip(carry, (found.values * share, share), strict=True)
            ), None

        totals = tuple(jnp.zeros((*padded.shape[:3], k), shape.dtype) for k in (shape.shape[-1], 1))
        places = jnp.stack(jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing="ij"), -1).reshape(-1, 2)
        (total, norm), _ = jax.lax.scan(add, totals, places)
        mean = (total / jnp.where(norm > 0, norm, 1))[:, : canvas[0], : canvas[1]]
        return images.replace(mean).zero_outside()


def make_protocol(settings: EvalSettings, flip_pairs: tuple[tuple[int, int], ...] = ()) -> Protocol:
    """Makes the protocol that settings name, in which the fields that they give take the place of its own."""
    if settings.protocol not in PROTOCOLS:
        raise InputError(f"unknown eval.protocol {settings.protocol!r}; there are {', '.join(PROTOCOLS)}")
    named = PROTOCOLS[settings.protocol]
    if settings.crop and "crop" not in named:
        raise InputError('eval.crop is for the protocols "crops" and "ms_crops"')
    fields = ("scales", "scale_weights", "crop", "crop_stride", "crop_window")
    given = {name: getattr(settings, name) for name in fields if getattr(settings, name)}
    return Protocol(**named | given, swap=flip_pairs if settings.swap else ())


def mirror(x: FeatureMap) -> FeatureMap:
    """Exchanges left and right, each image within its own width."""
    if x.extent is None:
        return x.replace(x.values[:, :, ::-1])
    columns = jnp.clip(x.extent[:, 1, None] - 1 - jnp.arange(x.shape[2])[None], 0)
    return x.replace(jnp.take_along_axis(x.values, columns[:, None, :, None], axis=2)).zero_outside()


def _scaled(canvas: Canvas, scale: float) -> Canvas:
    """Returns a canvas at another scale, its sizes rounded down."""
    ratio = Fraction(str(scale))
    sides = (canvas.height, canvas.width, canvas.extent)
    return Canvas(*(None if side is None else side * ratio.numerator // ratio.denominator for side in sides))


def _cut(values: jax.Array, start: jax.Array, size: tuple[int, int]) -> jax.Array:
    return jax.lax.dynamic_slice(values, (*start, 0), (*size, values.shape[-1]))


def _added(total: jax.Array, values: jax.Array, start: jax.Array) -> jax.Array:
    place = (*start, 0)
    return jax.lax.dynamic_update_slice(total, _cut(total, start, values.shape[:2]) + values, place)


def _trust(crop: tuple[int, int], window: str) -> np.ndarray:
    """Returns the weight of each position of a window, float32 (height, width)."""
    if window == "uniform":
        return np.ones(crop, np.float32)
    rows, columns = (np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (side / 8)) ** 2) for side in crop)
    return np.maximum(np.outer(rows, columns), 1e-4).astype(np.float32)
