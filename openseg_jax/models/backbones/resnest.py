"""ResNeSt (Zhang et al. 2020, arXiv:2004.08955) at stride 8: a deep-stem ResNet-D whose 3x3 convolutions are split.

stem (1/2) -> max-pool (1/4) -> stage 1 -> stage 2 (1/8) -> stage 3 -> stage 4, the last two dilated
"""

import jax.numpy as jnp
from flax import nnx

from openseg_jax.models.backbones.blocks import Block
from openseg_jax.models.backbones.resnet import ResNet
from openseg_jax.models.layers import Conv, ConvNorm, FeatureMap, conv_norm, declare, relu, softmax
from openseg_jax.models.pooling import avg_pool, global_avg_pool


class SplitBottleneck(Block):
    """1x1, split attention, 1x1. A stride is an average pool, behind the split attention and before the projection.

    That pool, over 3x3, stays where a stride has become a dilation: in the first block of stages 2 to 4.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, norm, *, stride=1, first_dilation=1, dilation=1):
        self.stride, self.pools = stride, stride > 1 or first_dilation < dilation
        self.conv1 = Conv(in_channels, width, 1, bias=False)
        self.norm1 = norm(width)
        self.conv2 = SplitAttention(width, norm, dilation=first_dilation)
        self.conv3 = Conv(width, 4 * width, 1, bias=False)
        self.norm3 = norm(4 * width)
        changes = stride != 1 or in_channels != 4 * width
        self.downsample = ConvNorm(in_channels, 4 * width, 1, norm) if changes else None

    def __call__(self, x: FeatureMap, *, train: bool) -> FeatureMap:
        y = conv_norm(self.conv1, self.norm1, x, train=train, then=relu)
        y = self.conv2(y, train=train)
        if self.pools:
            y = avg_pool(y, 3, stride=self.stride, padding=1)  # padding counts: edges are divided by 9 as well
        y = conv_norm(self.conv3, self.norm3, y, train=train)
        if self.downsample is not None:
            x = avg_pool(x, self.stride, stride=self.stride, ceil_mode=True, count_include_pad=False)
            x = self.downsample(x, train=train)
        return relu(y + x)


class SplitAttention(nnx.Module):
    """Figure 2 of the paper: a grouped convolution makes two splits, whose sum decides the weights of their mean.

    (N, H, W, C) -> (N, H, W, C). cardinality: of groups within a split; the nets here have 1.
    """

    radix = 2

    def __init__(self, channels: int, norm, *, dilation: int = 1, cardinality: int = 1):
        self.cardinality = cardinality
        inner = max(channels * self.radix // 4, 32)
        splits = channels * self.radix
        self.conv = Conv(channels, splits, 3, dilation=dilation, groups=cardinality * self.radix, bias=False)
        self.norm0 = norm(splits)
        self.fc1 = Conv(channels, inner, 1, groups=cardinality)
        self.norm1 = norm(inner)
        self.fc2 = Conv(inner, splits, 1, groups=cardinality)

    def __call__(self, x: FeatureMap, *, train: bool) -> FeatureMap:
        splits = conv_norm(self.conv, self.norm0, x, train=train, then=relu)
        parts = jnp.split(splits.values, self.radix, axis=-1)
        summary = global_avg_pool(splits.replace(sum(parts)))
        logits = self.fc2(conv_norm(self.fc1, self.norm1, summary, train=train, then=relu)).values
        grouped = logits.reshape(logits.shape[0], self.cardinality, self.radix, -1)
        weights = softmax(grouped, axis=2).swapaxes(1, 2).reshape(logits.shape[0], self.radix, 1, 1, -1)
        return splits.replace(sum(weights[:, i] * part for i, part in enumerate(parts)))


class ResNeSt(ResNet):
    """images (N, H, W, 3) -> Taps of six maps: stem, max-pool, and the four stages.

    Args:
        blocks: The number of blocks of each stage.
        width: The channels of the first stage's blocks.
        stem_width: The channels of the stem; its last convolution has twice as many.
    """

    block = SplitBottleneck

    def __init__(self, norm, *, blocks: tuple[int, int, int, int], width: int = 64, stem_width: int = 64):
        super().__init__(norm, blocks=blocks, deep_stem=True, output_stride=8, width=width, stem_width=stem_width)
        self.fc = ImageNetClassifier(self.taps.high.channels)


class ImageNetClassifier(nnx.Module):
    """2048 x 1000 weights that no segmentation net uses. Checkpoints of the original have them, so they are kept."""

    def __init__(self, channels: int, num_classes: int = 1000):
        self.kernel = declare(nnx.Param, (channels, num_classes), 0.0)
        self.bias = declare(nnx.Param, (num_classes,), 0.0)
