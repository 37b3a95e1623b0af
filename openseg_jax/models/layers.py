"""The primitives every net is made of, with PyTorch's semantics on NHWC feature maps.

A `FeatureMap` carries the true size of each image of a padded batch. Every primitive takes care of it, so that
backbones and heads never have to.
"""

import contextvars
import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from openseg_jax.errors import InputError
from openseg_jax.models import backend
from openseg_jax.models.batch_norm import batch_norm

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


class Activation(NamedTuple):
    """A leaky ReLU of this slope; its gradient at 0 is the slope, as in torch."""

    slope: float

    def __call__(self, x: FeatureMap) -> FeatureMap:
        return x.replace(self.of(x.values))

    def of(self, values: jax.Array) -> jax.Array:
        return _leaky_relu(values, self.slope)


relu = Activation(0.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _leaky_relu(x: jax.Array, slope: float) -> jax.Array:
    if slope:
        return jnp.where(x >= 0, x, slope * x)
    if x.dtype == jnp.bfloat16 and backend.current().selects_relu:
        return jnp.where(x <= 0, 0, x)
    return jnp.maximum(x, 0)


def _leaky_relu_forward(x, slope):
    y = _leaky_relu(x, slope)
    return y, y  # which the layer behind keeps in any case: the input need not be kept beside it


def _leaky_relu_backward(slope, y, gradient):
    y = jax.lax.optimization_barrier(y)
    return (jnp.where(y > 0, gradient, slope * gradient if slope else 0),)


_leaky_relu.defvjp(_leaky_relu_forward, _leaky_relu_backward)


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

    def __call__(self, x: FeatureMap | Sequence[FeatureMap]) -> FeatureMap:
        """Convolves a map; several maps stand for their concatenation, which then need not be written."""
        return self.compute(x, self.kernel.get_value(), None if self.bias is None else self.bias.get_value())

    def folded(self, gain: jax.Array, shift: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns kernel and bias of gain * conv(x) + shift, where gain and shift are (out_channels,)."""
        bias = shift if self.bias is None else self.bias.get_value() * gain + shift
        return self.kernel.get_value() * gain, bias

    def compute(
        self,
        x: FeatureMap | Sequence[FeatureMap],
        kernel: jax.Array,
        bias: jax.Array | None,
        then: Activation | None = None,
    ) -> FeatureMap:
        """Convolves with a kernel and a bias of this convolution's shapes, and applies an activation."""
        maps = [x] if isinstance(x, FeatureMap) else x
        if backend.current().joins_maps:
            maps = [concat(maps)]
        x, ends = maps[0], np.cumsum([own.shape[-1] for own in maps])
        kernels = jnp.split(kernel.astype(x.values.dtype), ends[:-1], axis=2)
        parts = [self._convolve(own.values, part) for own, part in zip(maps, kernels, strict=True)]
        y = functools.reduce(jnp.add, parts)
        if bias is not None:
            y = y + bias.astype(y.dtype)
        if then is not None:  # before zeros are written, so that it can become a part of the convolution
            y = then.of(y)
        shrinks_by = self.dilation * (self.size - 1) - 2 * self.padding
        if x.extent is None or (self.stride == 1 and shrinks_by == 0):
            return x.replace(y).zero_outside()
        return FeatureMap(y, (x.extent - shrinks_by - 1) // self.stride + 1).zero_outside()

    def _convolve(self, values: jax.Array, kernel: jax.Array) -> jax.Array:
        own = backend.current()
        if self.size == 1 and self.padding == 0 and self.groups == 1 and own.pointwise_by_product:
            return jnp.einsum("nhwc,cd->nhwd", values[:, :: self.stride, :: self.stride], kernel[0, 0])
        if own.one_by_one(self.groups):
            parts = zip(jnp.split(values, self.groups, -1), jnp.split(kernel, self.groups, -1), strict=True)
            return jnp.concatenate([self._whole(part, own, groups=1) for part, own in parts], axis=-1)
        return self._whole(values, kernel, self.groups)

    def _whole(self, values: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
        return jax.lax.conv_general_dilated(
            values,
            kernel,
            window_strides=(self.stride, self.stride),
            padding=[(self.padding, self.padding)] * 2,
            rhs_dilation=(self.dilation, self.dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )


class Norm(nnx.Module):
    """A norm, and the activation that follows it in the heads: a leaky ReLU of slope `slope`."""

    slope = 0.0

    @property
    def activation(self) -> Activation:
        return Activation(self.slope)


def _activate(self: Norm, x: FeatureMap, then: Activation | None = None) -> FeatureMap:
    """Applies `then`, or the norm's own activation. `activations` sees it as a method of each class, not inherited."""
    return (then or self.activation)(x)


class BatchNorm(Norm):
    """torch.nn.BatchNorm2d. Under `jit` with a sharded batch the statistics are global: torch.nn.SyncBatchNorm.

    Differs from flax.nnx.BatchNorm in what torch does differently: momentum 0.1 is the weight of the new value, the
    running variance is the unbiased one (n / (n - 1)), and statistics are float32 without the cancellation of
    E[x^2] - E[x]^2. It also traces in constant time, where flax.nnx.BatchNorm's indexed writes make tracing quadratic
    in the size of the net.
    """

    epsilon, momentum = 1e-5, 0.1
    frozen = False  # whether the running statistics are used, and stay, in training too

    def __init__(self, channels: int):
        self.scale = declare(nnx.Param, (channels,), 1.0)
        self.bias = declare(nnx.Param, (channels,), 0.0)
        self.mean = declare(nnx.BatchStat, (channels,), 0.0)
        self.var = declare(nnx.BatchStat, (channels,), 1.0)

    activate = _activate

    def gain(self) -> jax.Array:
        return self.scale.get_value()

    def affine(self) -> tuple[jax.Array, jax.Array]:
        """Returns gain and shift, (C,) each, of which gain * x + shift is the norm by the running statistics."""
        gain = jax.lax.rsqrt(self.var.get_value() + self.epsilon) * self.gain()
        return gain, self.bias.get_value() - self.mean.get_value() * gain

    def __call__(self, x: FeatureMap, *, train: bool) -> FeatureMap:
        if train and not self.frozen:
            return self.of_batch(x)
        mean, gain = self.mean.get_value(), jax.lax.rsqrt(self.var.get_value() + self.epsilon) * self.gain()
        y = (x.wide - mean) * gain + self.bias.get_value()
        return x.replace(y.astype(x.values.dtype)).zero_outside()

    def of_batch(self, x: FeatureMap, then: Activation | None = None) -> FeatureMap:
        """Normalises by the statistics of the batch, folds them into the running ones, and applies `then`."""
        if math.prod(x.shape[:3]) == 1:
            raise InputError(
                "a batch norm has one value per channel, of which there is no variance: take a larger "
                "augment.crop, a larger train.batch_size, a smaller train.accumulate, or model.norm=group_norm"
            )
        inside = None if x.extent is None else x.inside
        constants = self.epsilon, 1.0 if then is None else then.slope
        y, found = batch_norm(x.values, self.gain(), self.bias.get_value(), inside, x.extent, *constants)
        unbiased = found.var * (found.count / jnp.maximum(found.count - 1, 1))
        for stat, new in ((self.mean, found.mean), (self.var, unbiased)):
            old = stat.get_value()
            stat.set_value(((1 - self.momentum) * old + self.momentum * jax.lax.stop_gradient(new)).astype(old.dtype))
        return x.replace(y).zero_outside()


class InplaceABN(BatchNorm):
    """The maths of inplace_abn (Rota Bulo et al. 2018), which trained the original's released checkpoints.

    The effective scale is |gamma| + epsilon, and in the heads a leaky ReLU of slope 0.01 follows instead of a ReLU.
    The original's writes its output over its input, which shows in one place: the taps of a Wide-ResNet.
    """

    def gain(self) -> jax.Array:
        return jnp.abs(self.scale.get_value()) + self.epsilon

    slope = 0.01
    activate = _activate


class GroupNorm(Norm):
    """torch.nn.GroupNorm; the statistics are those of the real positions of one image. 8 groups as in the original."""

    epsilon, groups = 1e-5, 8
    activate = _activate

    def __init__(self, channels: int):
        if channels % self.groups:
            raise ValueError(f"group norm: {channels} channels cannot be divided into {self.groups} groups")
        self.scale = declare(nnx.Param, (channels,), 1.0)
        self.bias = declare(nnx.Param, (channels,), 0.0)

    def __call__(self, x: FeatureMap, *, train: bool) -> FeatureMap:
        del train  # the same in both modes
        values = x.wide.reshape(*x.shape[:3], self.groups, -1)
        inside = True if x.extent is None else x.inside[..., None]
        real = jnp.broadcast_to(inside, values.shape)
        mean = jnp.mean(values, axis=(1, 2, 4), keepdims=True, where=real)
        var = jnp.mean((values - mean) * (values - mean), axis=(1, 2, 4), keepdims=True, where=real)
        y = ((values - mean) * jax.lax.rsqrt(var + self.epsilon)).reshape(x.shape)
        y = y * self.scale.get_value() + self.bias.get_value()
        return x.replace(y.astype(x.values.dtype)).zero_outside()


NORMS = {"batch_norm": BatchNorm, "inplace_abn": InplaceABN, "group_norm": GroupNorm}


def norm_act(norm, x: FeatureMap, *, train: bool, then: Activation | None) -> FeatureMap:
    """Returns norm(x) and the activation `then` behind it; both are one operation where batch statistics are used."""
    if train and isinstance(norm, BatchNorm) and not norm.frozen:
        return norm.of_batch(x, then)
    x = norm(x, train=train)
    return x if then is None else norm.activate(x, then)


def conv_norm(
    conv: Conv, norm, x: FeatureMap | Sequence[FeatureMap], *, train: bool, then: Activation | None = None
) -> FeatureMap:
    """Returns norm(conv(x)) and the activation `then` behind it, in as few passes over the map as it goes."""
    folding = Folding.current.get()
    if folding is not None and isinstance(norm, BatchNorm):
        dtype = (x if isinstance(x, FeatureMap) else x[0]).values.dtype
        return conv.compute(x, *folding.next(conv, norm, dtype), then)
    return norm_act(norm, conv(x), train=train, then=then)


class Folding:
    """Batch norms folded into the convolutions before them, which evaluation within `Folding.current` uses.

    norm(conv(x)) = gain * conv(x) + shift is a convolution with another kernel and another bias. These are computed in
    float32, and then rounded to the dtype in which the net computes.

    Attributes:
        found: Kernel and bias of each convolution with a norm behind it, in the order in which the net calls them.
    """

    current: contextvars.ContextVar["Folding | None"] = contextvars.ContextVar("folding", default=None)

    def __init__(self, given: list[tuple[jax.Array, jax.Array]] | None = None):
        """given: What an earlier run of the same net found, which need not be computed again."""
        self.found: list[tuple[jax.Array, jax.Array]] = []
        self._given = None if given is None else iter(given)

    def next(self, conv: Conv, norm: BatchNorm, dtype) -> tuple[jax.Array, jax.Array]:
        """Returns kernel and bias of the next convolution that the net calls."""
        if self._given is not None:
            return next(self._given)
        kernel, bias = conv.folded(*norm.affine())
        self.found.append((kernel.astype(dtype), bias.astype(dtype)))
        return self.found[-1]


class ConvNorm(nnx.Module):
    """A convolution and its norm. Further arguments are those of `Conv`."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, norm, *, bias: bool = False, **options):
        self.conv = Conv(in_channels, out_channels, kernel, bias=bias, **options)
        self.norm = norm(out_channels)

    def __call__(
        self, x: FeatureMap | Sequence[FeatureMap], *, train: bool, then: Activation | None = None
    ) -> FeatureMap:
        return conv_norm(self.conv, self.norm, x, train=train, then=then)


class ConvNormAct(ConvNorm):
    """Convolution, normalisation and the activation that belongs to the norm: the unit of which heads are made."""

    def __call__(
        self, x: FeatureMap | Sequence[FeatureMap], *, train: bool, then: Activation | None = None
    ) -> FeatureMap:
        return super().__call__(x, train=train, then=then or self.norm.activation)


class ChannelDropout(nnx.Module):
    """torch.nn.Dropout2d: drops whole channels of single images. Active in training when given a PRNG key."""

    def __init__(self, rate: float):
        self.rate = rate

    def __call__(self, x: FeatureMap, *, train: bool, rngs: jax.Array | None) -> FeatureMap:
        if not train or rngs is None or self.rate == 0:
            return x
        keep = jax.random.bernoulli(rngs, 1 - self.rate, (x.shape[0], 1, 1, x.shape[3]))
        return x.replace(x.values * (keep / (1 - self.rate)).astype(x.values.dtype))
