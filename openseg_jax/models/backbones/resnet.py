"""ResNet (He et al. 2016, arXiv:1512.03385) and ResNeXt (Xie et al. 2017, arXiv:1611.05431), dilated on request.

    stem (1/2) -> max-pool (1/4) -> stage 1 -> stage 2 (1/8) -> stage 3 -> stage 4

Each stage is a sequence of residual blocks; the first one halves the resolution and doubles the width. With
output_stride 8 or 16 the last two stages, or the last one, keep the resolution and dilate instead.
"""

import math
from typing import Any

from flax import nnx

from openseg_jax.models.backbones.blocks import BasicBlock, Bottleneck, place_blocks, run_blocks
from openseg_jax.models.layers import Conv, ConvNorm, FeatureMap, declare, relu
from openseg_jax.models.pooling import max_pool
from openseg_jax.models.segmentor import Tap, Taps, TapSpec


class ResNet(nnx.Module):
    """images (N, H, W, 3) -> Taps of six maps: stem, max-pool, and the four stages.

    Args:
        blocks: The number of residual blocks of each stage.
        bottleneck: Whether blocks have three convolutions, not two.
        deep_stem: Whether the stem is three 3x3 convolutions, the original's "deepbase", not one of 7x7.
        output_stride: 8, 16 or 32.
        multi_grid: Factors of the dilations in the last stage, see `place_blocks`.
        width: The channels of the first stage's blocks.
        stem_width: The channels of the stem; the last convolution of a deep one has twice as many.
        groups: The groups of a ResNeXt's 3x3 convolutions.
        group_width: The channels of each of them in the first stage, if the width is 64.
        ceil_pool: Whether the max-pool rounds sizes up. All ResNets of the original do, its ResNeXts do not.
    """

    block: Any = Bottleneck

    def __init__(
        self,
        norm,
        *,
        blocks: tuple[int, int, int, int],
        bottleneck: bool = True,
        deep_stem: bool = False,
        output_stride: int = 32,
        multi_grid: tuple[int, ...] | None = None,
        width: int = 64,
        stem_width: int = 64,
        groups: int = 1,
        group_width: int = 64,
        ceil_pool: bool = True,
    ):
        self.ceil_pool = ceil_pool
        if deep_stem:
            stem = [(3, stem_width, 3, 2), (stem_width, stem_width, 3, 1), (stem_width, 2 * stem_width, 3, 1)]
        else:
            stem = [(3, stem_width, 7, 2)]
        self.stem = nnx.List(ConvNorm(c_in, c_out, size, norm, stride=s) for c_in, c_out, size, s in stem)

        if groups > 1 and (not bottleneck or width * group_width < 64):
            raise ValueError(
                f"groups are those of bottlenecks, with width * group_width of at least 64: found {bottleneck=}, "
                f"{width=}, {group_width=}"
            )
        block = self.block if bottleneck else BasicBlock
        channels = stem[-1][1]
        maps = [Tap(channels, 2), Tap(channels, 4)]
        self.stages = nnx.List()
        for stage, count in enumerate(blocks, start=1):
            planes = width * 2 ** (stage - 1)
            extra = {"groups": groups, "inner_width": planes * group_width // 64 * groups} if groups > 1 else {}
            placements = place_blocks(stage, count, output_stride, multi_grid)
            layers = []
            for placement in placements:
                layers.append(block(channels, planes, norm, **placement._asdict(), **extra))
                channels = planes * block.expansion
            self.stages.append(nnx.List(layers))
            maps.append(Tap(channels, maps[-1].stride * placements[0].stride))
        self.taps = TapSpec(maps=tuple(maps), low=maps[-2], high=maps[-1])

        for _, module in nnx.iter_modules(self):
            if isinstance(module, Conv):  # begins with He's normal distribution over the fan out
                shape = module.kernel.get_value().shape
                fan_out = shape[0] * shape[1] * shape[3]  # groups do not divide it
                module.kernel = declare(nnx.Param, shape, ("normal", 0, math.sqrt(2 / fan_out)))

    def __call__(self, images: FeatureMap, *, train: bool) -> Taps:
        x = images
        for layer in self.stem:
            x = layer(x, train=train, then=relu)
        maps = [x, max_pool(x, 3, stride=2, padding=1, ceil_mode=self.ceil_pool)]
        for stage in self.stages:
            maps.append(run_blocks(stage, maps[-1], train=train))
        return Taps(maps=tuple(maps), low=maps[-2], high=maps[-1])
