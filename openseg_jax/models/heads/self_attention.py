"""Attention of pixels to pixels, which OCNet and ISA are made of."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from flax import nnx

from openseg_jax.models import resize
from openseg_jax.models.attention import attend
from openseg_jax.models.layers import Conv, ConvNormAct, FeatureMap
from openseg_jax.models.pooling import max_pool


class Partition(NamedTuple):
    """A way to cut maps into groups of positions that attend to each other only.

    split: (N, H, W, C) -> (groups, positions, C); join: back again.
    real: boolean (groups, positions), the positions that exist; None means all.
    """

    split: Callable[[jax.Array], jax.Array]
    join: Callable[[jax.Array], jax.Array]
    real: jax.Array | None = None


def whole_map(x: FeatureMap) -> Partition:
    """Lets every position of an image attend to every other one."""
    n, height, width, _ = x.shape
    return Partition(
        split=lambda values: values.reshape(n, height * width, -1),
        join=lambda values: values.reshape(n, height, width, -1),
        real=None if x.extent is None else x.inside.reshape(n, height * width),
    )


class SelfAttention(nnx.Module):
    """(N, h, w, C) -> (N, h, w, out_channels): the context of each pixel within its group of a partition.

    Keys and queries pass two 1x1 convolutions each, the value one.
    pool: attend on maps max-pooled by this factor, and upsample the context.
    bias: of the convolutions. norm_out: whether a norm and activation follow the last convolution, which otherwise
    starts at zero, so that the context enters gradually.
    """

    def __init__(
        self,
        in_channels: int,
        key_channels: int,
        value_channels: int,
        out_channels: int,
        norm,
        *,
        bias: bool,
        norm_out: bool,
        pool: int = 1,
    ):
        def two_layers():
            return nnx.List(ConvNormAct(c, key_channels, 1, norm, bias=bias) for c in (in_channels, key_channels))

        self.pool = pool
        self.key, self.query = two_layers(), two_layers()
        self.value = Conv(in_channels, value_channels, 1, bias=bias)
        if norm_out:
            self.project = ConvNormAct(value_channels, out_channels, 1, norm, bias=bias)
        else:
            self.project = Conv(value_channels, out_channels, 1, bias=bias, zero=True)

    def __call__(
        self, x: FeatureMap, *, train: bool, partition: Callable[[FeatureMap], Partition] = whole_map
    ) -> FeatureMap:
        pooled = max_pool(x, self.pool, stride=self.pool) if self.pool > 1 else x
        groups = partition(pooled)
        key = query = pooled
        for layer in self.key:
            key = layer(key, train=train)
        for layer in self.query:
            query = layer(query, train=train)
        value = self.value(pooled)
        context = attend(*(groups.split(y.values) for y in (query, key, value)), real=groups.real)
        context = pooled.replace(groups.join(context)).zero_outside()
        context = self.project(context, train=train) if isinstance(self.project, ConvNormAct) else self.project(context)
        return resize.bilinear(context, to=x.canvas, align_corners=True) if self.pool > 1 else context
