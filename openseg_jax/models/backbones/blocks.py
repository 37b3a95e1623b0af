"""The two residual blocks (He et al. 2016, figure 5)."""

from __future__ import annotations

from flax import nnx

from openseg_jax.models.layers import Conv, ConvNorm, FeatureMap, relu


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions around an identity shortcut."""

    def __init__(self, channels: int, norm):
        self.conv1 = Conv(channels, channels, 3, bias=False)
        self.norm1 = norm(channels)
        self.conv2 = Conv(channels, channels, 3, bias=False)
        self.norm2 = norm(channels)

    def __call__(self, x: FeatureMap, *, train: bool) -> FeatureMap:
        y = relu(self.norm1(self.conv1(x), train=train))
        y = self.norm2(self.conv2(y), train=train)
        return relu(y + x)


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions to four times the width; a 1x1 projection as shortcut where channels change."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, norm):
        out_channels = width * self.expansion
        self.conv1 = Conv(in_channels, width, 1, bias=False)
        self.norm1 = norm(width)
        self.conv2 = Conv(width, width, 3, bias=False)
        self.norm2 = norm(width)
        self.conv3 = Conv(width, out_channels, 1, bias=False)
        self.norm3 = norm(out_channels)
        self.downsample = None if in_channels == out_channels else ConvNorm(in_channels, out_channels, 1, norm)

    def __call__(self, x: FeatureMap, *, train: bool) -> FeatureMap:
        y = relu(self.norm1(self.conv1(x), train=train))
        y = relu(self.norm2(self.conv2(y), train=train))
        y = self.norm3(self.conv3(y), train=train)
        shortcut = x if self.downsample is None else self.downsample(x, train=train)
        return relu(y + shortcut)
