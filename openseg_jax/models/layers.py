"""The primitives every net is made of, with PyTorch's semantics on NHWC feature maps.

A `FeatureMap` carries the true size of each image of a padded batch. Every primitive takes care of it, so that
backbones and heads never have to.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from openseg_jax.errors import InputError

# ---------------------------------------------------------------------------------------------------------------------
# Feature maps and their true sizes


class Canvas(NamedTuple):
    """The size of a batch of maps: that of the array, and the extent and the mask of a `FeatureMap` on it."""

    height: int
    width: int
    extent: jax.Array | None = None
    mask: jax.Array | None = None


@functools.partial(jax.tree_util.register_dataclass, data_fields=["values", "extent", "mask"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class FeatureMap:
    """A batch of feature maps, and how much of each one is real.

    The one rule: **what lies beyond the extent is zero**. Every primitive relies on it and leaves it so. A
    convolution then sees the same zeros beyond the true border of a padded image as it would see as its own zero
    padding, which makes a padded batch give each image the result of running it alone.

    Attributes:
        values: (N, H, W, C) array.
        extent: int32 (N, 2), the true (height, width) of each map; None means that all is real, and costs nothing.
        mask: What `inside` returns, handed on between maps of one extent: made anew in each layer, the masks of an
            HRNet take ten times as long to compile as the net.
    """

    values: jax.Array
    extent: jax.Array | None = None
    mask: jax.Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def wide(self) -> jax.Array:
        """The values in at least float32."""
        return self.values.astype(jnp.promote_types(self.values.dtype, jnp.float32))

    @property
    def canvas(self) -> Canvas:
        """The size of this map, to which others can be resized."""
        return Canvas(self.shape[1], self.shape[2], self.extent, self.mask)

    @property
    def inside(self) -> Any:
        """Boolean (N, H, W, 1), whether positions are real; plain True without an extent."""
        if self.extent is None:
            return True
        if self.mask is not None:
            return self.mask
        rows = jnp.arange(self.shape[1])[None, :, None, None] < self.extent[:, 0, None, None, None]
        columns = jnp.arange(self.shape[2])[None, None, :, None] < self.extent[:, 1, None, None, None]
        return rows & columns

    def replace(self, values: jax.Array) -> "FeatureMap":
        """Returns a map of the same size with other values, which must be zero beyond the extent already."""
        return FeatureMap(values, self.extent, None if self.extent is None else self.inside)

    def filled_outside(self, fill: float) -> jax.Array:
        """Returns the values, with `fill` beyond the extent."""
        return self.values if self.extent is None else jnp.where(self.inside, self.values, fill)

    def zero_outside(self) -> "FeatureMap":
        """Restores the rule after an operation that broke it."""
        if self.extent is None:
            return self
        inside = self.inside
        return FeatureMap(jnp.where(inside, self.values, 0), self.extent, inside)

    def __add__(self, other: "FeatureMap") -> "FeatureMap":
        return self.replace(self.values + other.values)


def relu(x: FeatureMap) -> FeatureMap:
    """Applies a ReLU; its gradient at 0 is 0, as in torch."""
    if x.values.dtype == jnp.bfloat16:
        # The same as a maximum, which XLA gets wrong on the CPU of jax 0.11 and 0.12 (docs/differences.md).
        return x.replace(jnp.where(x.values <= 0, 0, x.values))
    return x.replace(jax.nn.relu(x.values))


def concat(maps: list[FeatureMap]) -> FeatureMap:
    """Joins maps of one size along the channels, in the given order."""
    return maps[0].replace(jnp.concatenate([m.values for m in maps], axis=-1))


def chain(modules: Iterable, x: FeatureMap, *, train: bool) -> FeatureMap:
    """Calls modules one after the other."""
    for module in modules:
        x = module(x, train=train)
    return x


def softmax(x: jax.Array, axis: int | tuple[int, ...]) -> jax.Array:
    """Takes a softmax in at least float32, and returns the dtype of x."""
    return jax.nn.softmax(x.astype(jnp.promote_types(x.dtype, jnp.float32)), axis).astype(x.dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Layers


def declare(kind: type[nnx.Variable], shape: tuple[int, ...], init: float | tuple) -> nnx.Variable:
    """Declares a float32 variable without making it, so that building a net allocates and compiles nothing.

    `init` is its first value, or the distribution of it: a method of numpy.random.Generator and its arguments.
    """
    return kind(jax.ShapeDtypeStruct(shape, jnp.float32), init=init)


class Conv(nnx.Module):
    """torch.nn.Conv2d with its initial distribution, uniform in +-1/sqrt(fan_in), or with zeros if `zero`.

    The default padding, dilation * (kernel // 2), keeps the size at stride 1. All convolutions of the original use it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        zero: bool = False,
    ):
        self.size, self.stride, self.dilation, self.groups = kernel, stride, dilation, groups
        self.padding = dilation * (kernel // 2) if padding is None else padding
        shape = (kernel, kernel, in_channels // groups, out_channels)
        bound = 1 / math.sqrt(math.prod(shape[:3]))
        init = 0.0 if zero else ("uniform", -bound, bound)
        self.kernel = declare(nnx.Param, shape, init)
        self.bias = declare(nnx.Param, (out_channels,), init) if bias else None

    def __call__(self, x: FeatureMap) -> FeatureMap:
        kernel = self.kernel.get_value().astype(x.values.dtype)
        if self.size == 1 and self.padding == 0 and self.groups == 1:
            # The same sum as a matrix product: several times faster than XLA's convolution on CPU, above all backward.
            strided = x.values[:, :: self.stride, :: self.stride]
            y = jnp.einsum("nhwc,cd->nhwd", strided, kernel[0, 0])
        elif 1 < self.groups <= 4:
            # One by one: on CPU XLA's own groups take four times as long forward, and five to a hundred times backward.
            parts = zip(jnp.split(x.values, self.groups, -1), jnp.split(kernel, self.groups, -1), strict=True)
            y = jnp.concatenate([self._convolve(part, own, groups=1) for part, own in parts], axis=-1)
        else:
            y = self._convolve(x.values, kernel, self.groups)
        if self.bias is not None:
            y = y + self.bias.get_value().astype(y.dtype)
        shrinks_by = self.dilation * (self.size - 1) - 2 * self.padding
        if x.extent is None or (self.stride == 1 and shrinks_by == 0):
            return x.replace(y).zero_outside()
        return FeatureMap(y, (x.extent - shrinks_by - 1) // self.stride + 1).zero_outside()

    def _convolve(self, values: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
        return jax.lax.conv_general_dilated(
            values,
            kernel,
            window_strides=(self.stride, self.stride),
            padding=[(self.padding, self.padding)] * 2,
            rhs_dilation=(self.dilation, self.dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )


class BatchNorm(nnx.Module):
    """torch.nn.BatchNorm2d. Under `jit` with a sharded batch the statistics are global: torch.nn.SyncBatchNorm.

    Differs from flax.nnx.BatchNorm in what torch does differently: momentum 0.1 is the weight of the new value, the
    running variance is the unbiased one (n / (n - 1)), and statistics are float32 in two passes (the one-pass formula
    E[x^2] - E[x]^2 loses the variance of channels with a large mean). It also traces in constant time, where
    flax.nnx.BatchNorm's indexed writes make tracing quadratic in the size of the net.
    """

    epsilon, momentum = 1e-5, 0.1
    frozen = False  # whether the running statistics are used, and stay, in training too

    def __init__(self, channels: int):
        self.scale = declare(nnx.Param, (channels,), 1.0)
        self.bias = declare(nnx.Param, (channels,), 0.0)
        self.mean = declare(nnx.BatchStat, (channels,), 0.0)
        self.var = declare(nnx.BatchStat, (channels,), 1.0)

    def gain(self) -> jax.Array:
        return self.scale.get_value()

    def activate(self, x: FeatureMap) -> FeatureMap:
        """Applies the activation that follows this norm in the heads."""
        return relu(x)

    def __call__(self, x: FeatureMap, *, train: bool) -> FeatureMap:
        values = x.wide
        if train and not self.frozen:
            if math.prod(x.shape[:3]) == 1:
                raise InputError(
                    "a batch norm has one value per channel, of which there is no variance: take a larger "
                    "augment.crop, a larger train.batch_size, a smaller train.accumulate, or model.norm=group_norm"
                )
            mean, var, count = moments(values, x.inside, axes=(0, 1, 2))
            unbiased = var * (count / jnp.maximum(count - 1, 1))
            for stat, new in ((self.mean, mean), (self.var, unbiased)):
                old, new = stat.get_value(), jax.lax.stop_gradient(new).reshape(-1)
                stat.set_value(((1 - self.momentum) * old + self.momentum * new).astype(old.dtype))
        else:
            mean, var = self.mean.get_value(), self.var.get_value()
        y = (values - mean) * (jax.lax.rsqrt(var + self.epsilon) * self.gain()) + self.bias.get_value()
        return x.replace(y.astype(x.values.dtype)).zero_outside()


class InplaceABN(BatchNorm):
    """The maths of inplace_abn (Rota Bulo et al. 2018), which trained the original's released checkpoints.

    The effective scale is |gamma| + epsilon, and in the heads a leaky ReLU of slope 0.01 follows instead of a ReLU.
    The original's writes its output over its input, which shows in one place: the taps of a Wide-ResNet.
    """

    def gain(self) -> jax.Array:
        return jnp.abs(self.scale.get_value()) + self.epsilon

    def activate(self, x: FeatureMap) -> FeatureMap:
        return x.replace(jax.nn.leaky_relu(x.values, negative_slope=0.01))


class GroupNorm(nnx.Module):
    """torch.nn.GroupNorm; the statistics are those of the real positions of one image. 8 groups as in the original."""

    epsilon, groups = 1e-5, 8

    def __init__(self, channels: int):
        if channels % self.groups:
            raise ValueError(f"group norm: {channels} channels cannot be divided into {self.groups} groups")
        self.scale = declare(nnx.Param, (channels,), 1.0)
        self.bias = declare(nnx.Param, (channels,), 0.0)

    def __call__(self, x: FeatureMap, *, train: bool) -> FeatureMap:
        del train  # the same in both modes
        values = x.wide.reshape(*x.shape[:3], self.groups, -1)
        inside = True if x.extent is None else x.inside[..., None]
        mean, var, _ = moments(values, inside, axes=(1, 2, 4))
        y = ((values - mean) * jax.lax.rsqrt(var + self.epsilon)).reshape(x.shape)
        y = y * self.scale.get_value() + self.bias.get_value()
        return x.replace(y.astype(x.values.dtype)).zero_outside()

    def activate(self, x: FeatureMap) -> FeatureMap:
        return relu(x)


def moments(values: jax.Array, inside: jax.Array | bool, axes: tuple[int, ...]):
    """Returns mean, biased variance and count of the real values over `axes`, which are kept with size 1.

    It takes two passes. The values must be zero where `inside` is false.
    """
    count = jnp.sum(jnp.broadcast_to(inside, values.shape), axis=axes, keepdims=True, dtype=values.dtype)
    mean = jnp.sum(values, axis=axes, keepdims=True) / count
    deviation = values - mean if inside is True else jnp.where(inside, values - mean, 0)
    var = jnp.sum(deviation * deviation, axis=axes, keepdims=True) / count
    return mean, var, count


NORMS = {"batch_norm": BatchNorm, "inplace_abn": InplaceABN, "group_norm": GroupNorm}


class ConvNorm(nnx.Module):
    """A convolution and its norm. Further arguments are those of `Conv`."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, norm, *, bias: bool = False, **options):
        self.conv = Conv(in_channels, out_channels, kernel, bias=bias, **options)
        self.norm = norm(out_channels)

    def __call__(self, x: FeatureMap, *, train: bool) -> FeatureMap:
        return self.norm(self.conv(x), train=train)


class ConvNormAct(ConvNorm):
    """Convolution, normalisation and the activation that belongs to the norm: the unit of which heads are made."""

    def __call__(self, x: FeatureMap, *, train: bool) -> FeatureMap:
        return self.norm.activate(super().__call__(x, train=train))


class ChannelDropout(nnx.Module):
    """torch.nn.Dropout2d: drops whole channels of single images. Active in training when given a PRNG key."""

    def __init__(self, rate: float):
        self.rate = rate

    def __call__(self, x: FeatureMap, *, train: bool, rngs: jax.Array | None) -> FeatureMap:
        if not train or rngs is None or self.rate == 0:
            return x
        keep = jax.random.bernoulli(rngs, 1 - self.rate, (x.shape[0], 1, 1, x.shape[3]))
        return x.replace(x.values * (keep / (1 - self.rate)).astype(x.values.dtype))
