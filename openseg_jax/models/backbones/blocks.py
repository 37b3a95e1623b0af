"""The two residual blocks (He et al. 2016, figure 5), with the grouped convolution of ResNeXt."""

from flax import nnx

from openseg_jax.models.layers import Conv, ConvNorm, FeatureMap, relu


class Block(nnx.Module):
    """A part of a backbone, called as block(x, train=train), at whose borders activations may be kept.

    With `recompute` it is rematerialised: activations inside are computed again in the backward pass.
    """

    recompute = False


def run_block(block: Block, x, *, train: bool):
    """Calls block(x, train=train), rematerialised if it says so."""
    if not block.recompute:
        return block(x, train=train)
    return nnx.remat(lambda block, x: block(x, train=train))(block, x)


class BasicBlock(Block):
    """Two 3x3 convolutions beside a shortcut; a 1x1 projection as shortcut where the size or the channels change.

    stride, first_dilation: of the first convolution; dilation: of the second.
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, norm, *, stride=1, first_dilation=1, dilation=1):
        self.conv1 = Conv(in_channels, width, 3, stride=stride, dilation=first_dilation, bias=False)
        self.norm1 = norm(width)
        self.conv2 = Conv(width, width, 3, dilation=dilation, bias=False)
        self.norm2 = norm(width)
        self.downsample = _projection(in_channels, width, stride, norm)

    def __call__(self, x: FeatureMap, *, train: bool) -> FeatureMap:
        y = relu(self.norm1(self.conv1(x), train=train))
        y = self.norm2(self.conv2(y), train=train)
        return relu(y + (x if self.downsample is None else self.downsample(x, train=train)))


class Bottleneck(Block):
    """1x1, 3x3 and 1x1 convolutions to four times the width, beside the same shortcut.

    stride, first_dilation: of the 3x3 convolution, which is the first to have either. groups: of that convolution.
    inner_width: channels inside, `width` if not given (ResNeXt has more).
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        norm,
        *,
        stride=1,
        first_dilation=1,
        dilation=1,
        groups: int = 1,
        inner_width: int | None = None,
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
        y = relu(self.norm1(self.conv1(x), train=train))
        y = relu(self.norm2(self.conv2(y), train=train))
        y = self.norm3(self.conv3(y), train=train)
        return relu(y + (x if self.downsample is None else self.downsample(x, train=train)))


def _projection(in_channels: int, out_channels: int, stride: int, norm) -> ConvNorm | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return ConvNorm(in_channels, out_channels, 1, norm, stride=stride)
