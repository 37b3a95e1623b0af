"""The two residual blocks (He et al. 2016, figure 5), with ResNeXt's grouped convolution, and how they are dilated."""

from collections.abc import Iterable
from typing import NamedTuple

from flax import nnx

from openseg_jax.models.layers import Conv, ConvNorm, FeatureMap, conv_norm, relu


class Block(nnx.Module):
    """A part of a backbone, called as block(x, train=train), at whose borders activations may be kept.

    With `recompute` it is rematerialised: activations inside are computed again in the backward pass.
    """

    expansion = 1  # of the channels, from the width that a block is made with to its output
    recompute = False


def run_block(block: Block, x, *, train: bool):
    """Calls block(x, train=train), rematerialised if it says so."""
    if not block.recompute:
        return block(x, train=train)
    return nnx.remat(lambda block, x: block(x, train=train))(block, x)


def run_blocks(blocks: Iterable[Block], x, *, train: bool):
    """Calls blocks one after the other, as `run_block` does."""
    for block in blocks:
        x = run_block(block, x, train=train)
    return x


class BasicBlock(Block):
    """Two 3x3 convolutions beside a shortcut; a 1x1 projection as shortcut where the size or the channels change.

    stride, first_dilation: of the first convolution; dilation: of the second.
    """

    def __init__(self, in_channels: int, width: int, norm, *, stride=1, first_dilation=1, dilation=1):
        self.conv1 = Conv(in_channels, width, 3, stride=stride, dilation=first_dilation, bias=False)
        self.norm1 = norm(width)
        self.conv2 = Conv(width, width, 3, dilation=dilation, bias=False)
        self.norm2 = norm(width)
        self.downsample = _projection(in_channels, width, stride, norm)

    def __call__(self, x: FeatureMap, *, train: bool) -> FeatureMap:
        y = conv_norm(self.conv1, self.norm1, x, train=train, then=relu)
        y = conv_norm(self.conv2, self.norm2, y, train=train)
        return relu(y + (x if self.downsample is None else self.downsample(x, train=train)))


class Bottleneck(Block):
    """1x1, 3x3 and 1x1 convolutions to four times the width, beside the same shortcut.

    stride, first_dilation: of the 3x3 convolution, which is the first to have either. groups: of that convolution.
    inner_width: channels inside, `width` if not given (ResNeXt has more).
    """

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, norm, *, stride=1, first_dilation=1, dilation=1, groups=1, inner_width=None
    ):
        del dilation  # of a second 3x3 convolution, which there is none
        out_channels, inner = width * self.expansion, inner_width or width
        self.conv1 = Conv(in_channels, inner, 1, bias=False)
        self.norm1 = norm(inner)
        self.conv2 = Conv(inner, inner, 3, stride=stride, dilation=first_dilation, groups=groups, bias=False)
        self.norm2 = norm(inner)
        self.conv3 = Conv(inner, out_channels, 1, bias=False)
        self.norm3 = norm(out_channels)
        self.downsample = _projection(in_channels, out_channels, stride, norm)

    def __call__(self, x: FeatureMap, *, train: bool) -> FeatureMap:
        y = conv_norm(self.conv1, self.norm1, x, train=train, then=relu)
        y = conv_norm(self.conv2, self.norm2, y, train=train, then=relu)
        y = conv_norm(self.conv3, self.norm3, y, train=train)
        return relu(y + (x if self.downsample is None else self.downsample(x, train=train)))


def _projection(in_channels: int, out_channels: int, stride: int, norm) -> ConvNorm | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return ConvNorm(in_channels, out_channels, 1, norm, stride=stride)


class Placement(NamedTuple):
    """Stride and dilations of one residual block, the keyword arguments that blocks take."""

    stride: int
    first_dilation: int  # of the block's first 3x3 convolution
    dilation: int  # of the other one, where there is one


def place_blocks(stage: int, count: int, output_stride: int, multi_grid: tuple[int, ...] | None) -> list[Placement]:
    """Says where the `count` blocks of stage 1, 2, 3 or 4 stand, in a net that ends at output_stride 8, 16 or 32.

    A stage that gives up its stride of 2 has dilation D = 2, or 4 if an earlier stage has given up its own too (Yu,
    Koltun 2016). The convolution that had the stride gets D / 2: it still reads what the stage before it has written.
    multi_grid multiplies D block by block, in stage 4 only (Chen et al. 2017); blocks it does not reach stay at
    dilation 1, as in the original. Raises ValueError if it is longer than the stage, and for other output strides.
    """
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride must be 8, 16 or 32, found {output_stride}")
    first_dilated = {32: 5, 16: 4, 8: 3}[output_stride]
    dilations = [2 ** max(stage - first_dilated + 1, 0)] * count
    if multi_grid and stage == 4 and output_stride < 32:
        if len(multi_grid) > count:
            raise ValueError(f"multi_grid {list(multi_grid)} has more entries than the last stage blocks, {count}")
        dilations = [int(dilations[0] * factor) for factor in multi_grid] + [1] * (count - len(multi_grid))
    first = Placement(1 if stage == 1 or stage >= first_dilated else 2, max(dilations[0] // 2, 1), dilations[0])
    return [first, *(Placement(1, dilation, dilation) for dilation in dilations[1:])]
