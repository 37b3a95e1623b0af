"""ResNeSt (Zhang et al. 2020, arXiv:2004.08955) at stride 8: a deep-stem ResNet-D whose 3x3 convolutions are split.

stem (1/2) -> max-pool (1/4) -> stage 1 -> stage 2 (1/8) -> stage 3 -> stage 4, the last two dilated
"""

import jax
import jax.numpy as jnp
from flax import nnx

from openseg_jax.models.backbones.blocks import Block
from openseg_jax.models.backbones.dilation import place_blocks
from openseg_jax.models.backbones.resnet import ResidualNet
from openseg_jax.models.backbones.taps import Tap, TapSpec
from openseg_jax.models.layers import Constant, Conv, ConvNorm, FeatureMap, declare, redraw_kernels, relu
from openseg_jax.models.pooling import avg_pool, global_avg_pool


class ResNeSt(ResidualNet):
    """images (N, H, W, 3) -> Taps of six maps: stem, max-pool, and the four stages.

    blocks: of each stage. width: channels of the first stage. stem_width: of the stem, twice that at its end.
    """

    ceil_pool = True

    def __init__(self, norm, *, blocks: tuple[int, int, int, int], width: int = 64, stem_width: int = 64):
        stem = [(3, stem_width, 2), (stem_width, stem_width, 1), (stem_width, 2 * stem_width, 1)]
        self.stem = nnx.List(ConvNorm(c_in, c_out, 3, norm, stride=stride) for c_in, c_out, stride in stem)
        channels = 2 * stem_width
        maps = [Tap(channels, 2), Tap(channels, 4)]
        self.stages = nnx.List()
        for stage, count in enumerate(blocks, start=1):
            layers = []
            for index, place in enumerate(place_blocks(stage, count, output_stride=8)):
                pools = index == 0 and stage > 1  # also where the stride has become a dilation
                layers.append(
                    SplitBottleneck(
                        channels,
                        width * 2 ** (stage - 1),
                        norm,
                        stride=place.stride,
                        dilation=place.first_dilation,
                        pools=pools,
                    )
                )
                channels = 4 * width * 2 ** (stage - 1)
            self.stages.append(nnx.List(layers))
            maps.append(Tap(channels, maps[-1].stride * (2 if stage == 2 else 1)))
        self.taps = TapSpec(maps=tuple(maps), low=maps[-2], high=maps[-1])
        redraw_kernels(self)
        self.fc = ImageNetClassifier(channels)


class SplitBottleneck(Block):
    """1x1, split attention, 1x1. A stride is an average pool, behind the split attention and before the projection.

    pools: average over 3x3 behind the split attention, in the first block of stages 2 to 4, whatever their stride.
    """

    def __init__(self, in_channels: int, width: int, norm, *, stride: int = 1, dilation: int = 1, pools: bool = False):
        self.stride, self.pools = stride, pools
        self.conv1 = Conv(in_channels, width, 1, bias=False)
        self.norm1 = norm(width)
        self.conv2 = SplitAttention(width, norm, dilation=dilation)
        self.conv3 = Conv(width, 4 * width, 1, bias=False)
        self.norm3 = norm(4 * width)
        changes = stride != 1 or in_channels != 4 * width
        self.downsample = ConvNorm(in_channels, 4 * width, 1, norm) if changes else None

    def __call__(self, x: FeatureMap, *, train: bool) -> FeatureMap:
        y = relu(self.norm1(self.conv1(x), train=train))
        y = self.conv2(y, train=train)
        if self.pools:
            y = avg_pool(y, 3, stride=self.stride, padding=1)  # padding counts: edges are divided by 9 as well
        y = self.norm3(self.conv3(y), train=train)
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
        splits = relu(self.norm0(self.conv(x), train=train))
        parts = jnp.split(splits.values, self.radix, axis=-1)
        summary = global_avg_pool(splits.replace(sum(parts)))
        logits = self.fc2(relu(self.norm1(self.fc1(summary), train=train))).values
        grouped = logits.reshape(logits.shape[0], self.cardinality, self.radix, -1)
        wide = jnp.promote_types(grouped.dtype, jnp.float32)
        weights = jax.nn.softmax(grouped.astype(wide), axis=2).astype(grouped.dtype).swapaxes(1, 2)
        weights = weights.reshape(logits.shape[0], self.radix, 1, 1, -1)
        return splits.replace(sum(weights[:, i] * part for i, part in enumerate(parts)))


class ImageNetClassifier(nnx.Module):
    """2048 x 1000 weights that no segmentation net uses. Checkpoints of the original have them, so they are kept."""

    def __init__(self, channels: int, num_classes: int = 1000):
        self.kernel = declare(nnx.Param, (channels, num_classes), Constant(0.0))
        self.bias = declare(nnx.Param, (num_classes,), Constant(0.0))
