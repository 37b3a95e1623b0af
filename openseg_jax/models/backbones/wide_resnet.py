"""Wide-ResNet A2 (Wu, Shen, van den Hengel 2016, arXiv:1611.10080), at stride 8.

    conv -> pool (1/2) -> stage 2 -> pool (1/4) -> stage 3 -> stage 4 (1/8) -> stage 5 -> stage 6 -> stage 7 -> norm

Blocks activate before they convolve (He et al. 2016, arXiv:1603.05027); the last stages dilate.
"""

from flax import nnx

from openseg_jax.models.backbones.blocks import Block, run_block
from openseg_jax.models.layers import Conv, FeatureMap, InplaceABN, norm_act
from openseg_jax.models.pooling import max_pool
from openseg_jax.models.segmentor import Tap, Taps, TapSpec


class WideResNet(nnx.Module):
    """images (N, H, W, 3) -> Taps of four maps at stride 8: stages 4, 5 and 6, and stage 7 after a last activation.

    Args:
        blocks: The number of blocks of the stages 2 to 7.
        width: The channels of the first convolution, a 64th of those of the last stage.
    """

    def __init__(self, norm, *, blocks: tuple[int, int, int, int, int, int], width: int = 64):
        w = width
        convolutions = (
            (2 * w, 2 * w), (4 * w, 4 * w), (8 * w, 8 * w),
            (8 * w, 16 * w), (8 * w, 16 * w, 32 * w), (16 * w, 32 * w, 64 * w),
        )  # fmt: skip
        strides, dilations = (1, 1, 2, 1, 1, 1), (1, 1, 1, 2, 4, 4)
        self.conv1 = Conv(3, w, 3, bias=False)
        self.stages = nnx.List()
        channels = w
        for count, outs, stride, dilation in zip(blocks, convolutions, strides, dilations, strict=True):
            layers = []
            for block in range(count):
                layers.append(PreActivationBlock(channels, outs, stride if block == 0 else 1, dilation, norm))
                channels = outs[-1]
            self.stages.append(nnx.List(layers))
        self.norm_out = norm(channels)
        maps = tuple(Tap(outs[-1], 8) for outs in convolutions[2:])
        self.taps = TapSpec(maps=maps, low=maps[-2], high=maps[-1])

    def __call__(self, images: FeatureMap, *, train: bool) -> Taps:
        x = self.conv1(images)
        raw, activated = [], []
        for index, stage in enumerate(self.stages):
            if index < 2:
                x = max_pool(x, 3, stride=2, padding=1, ceil_mode=True)
            for position, block in enumerate(stage):
                x, activation = run_block(block, x, train=train)
                if position == 0:
                    activated.append(activation)
            raw.append(x)
        last = norm_act(self.norm_out, x, train=train, then=self.norm_out.activation)
        # inplace_abn works in place: before a tap of the original is read, the next stage has activated it.
        in_place = isinstance(self.norm_out, InplaceABN)
        maps = (*(activated[3:] if in_place else raw[2:5]), last)
        return Taps(maps=maps, low=maps[-2], high=maps[-1])


class PreActivationBlock(Block):
    """Norm, activation, convolution, two or three times; kernels 3-3 or 1-3-1. Returns (output, first activation).

    The shortcut is the input, or where size or channels change a 1x1 projection of the first activation.
    """

    def __init__(self, in_channels: int, outs: tuple[int, ...], stride: int, dilation: int, norm):
        ins, kernels = (in_channels, *outs[:-1]), (3, 3) if len(outs) == 2 else (1, 3, 1)
        self.norms = nnx.List(norm(channels) for channels in ins)
        self.convs, strides = nnx.List(), (stride, 1, 1)[: len(outs)]
        for c_in, c_out, kernel, own in zip(ins, outs, kernels, strides, strict=True):
            dilates = dilation if kernel == 3 else 1
            self.convs.append(Conv(c_in, c_out, kernel, stride=own, dilation=dilates, bias=False))
        changes = stride != 1 or in_channels != outs[-1]
        self.projection = Conv(in_channels, outs[-1], 1, stride=stride, bias=False) if changes else None

    def __call__(self, x: FeatureMap, *, train: bool) -> tuple[FeatureMap, FeatureMap]:
        y, first = x, None
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = norm_act(norm, y, train=train, then=norm.activation)
            first = y if first is None else first
            y = conv(y)
        shortcut = x if self.projection is None else self.projection(first)
        return y + shortcut, first
