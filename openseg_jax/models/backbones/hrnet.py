"""HRNet: high resolution kept through the whole net (Wang et al., TPAMI 2020, arXiv:1908.07919).

    HRNet:   stem (1/4) -> layer1 -> stage2 -> stage3 -> stage4
    HRNet2x: stem (1/2) -> stage1 -> stage2 -> stage3 -> stage4   (Yuan et al., ECCV 2020, arXiv:2007.04269)

Stage s of HRNet runs s branches side by side, at strides 4, 8, 16 and 32 and widths C, 2C, 4C and 8C. It is a sequence
of modules; in each, every branch passes a few residual blocks, and then all branches exchange what they found.
HRNet2x, made for SegFix, has one more branch in every stage, at stride 2.
"""

import functools
import operator

from flax import nnx

from openseg_jax.models import resize
from openseg_jax.models.backbones.blocks import BasicBlock, Block, Bottleneck, run_blocks
from openseg_jax.models.layers import Canvas, Conv, ConvNorm, FeatureMap, chain, concat, conv_norm, relu
from openseg_jax.models.segmentor import Tap, Taps, TapSpec


class HRNet(nnx.Module):
    """images (N, H, W, 3) -> Taps of four branches at strides 4, 8, 16, 32 with C, 2C, 4C, 8C channels.

    Args:
        width: C, the channels of the finest branch.
        blocks: The number of residual blocks per branch of a module.
        modules: The number of modules in stages 2, 3 and 4.
        layer1_blocks: The number of bottlenecks before the branches.
        layer1_width: The channels inside them.
        full_res_stem: One stem convolution at stride 1 instead of two at stride 2; taps at strides 1, 2, 4, 8.
        drop_stage4: Taps are the branches of stage 3. Stage 4 is built all the same: checkpoints keep their keys.
        keep_imagenet_head: Taps pass the body of the classification head: 128, 256, 512 and 2048 channels.
    """

    def __init__(
        self,
        norm,
        *,
        width: int,
        blocks: int = 4,
        modules: tuple[int, int, int] = (1, 4, 3),
        layer1_blocks: int = 4,
        layer1_width: int = 64,
        full_res_stem: bool = False,
        drop_stage4: bool = False,
        keep_imagenet_head: bool = False,
    ):
        widths = tuple(width * 2**branch for branch in range(4))
        self.drop_stage4 = drop_stage4

        self.conv1 = Conv(3, 64, 3, stride=1 if full_res_stem else 2, bias=False)
        self.norm1 = norm(64)
        self.conv2 = None if full_res_stem else Conv(64, 64, 3, stride=2, bias=False)
        self.norm2 = None if full_res_stem else norm(64)

        layer1_out = layer1_width * Bottleneck.expansion
        self.layer1 = nnx.List(
            Bottleneck(64 if block == 0 else layer1_out, layer1_width, norm) for block in range(layer1_blocks)
        )
        self.transition1, self.stage2 = _stage((layer1_out,), widths[:2], modules[0], blocks, norm)
        self.transition2, self.stage3 = _stage(widths[:2], widths[:3], modules[1], blocks, norm)
        self.transition3, self.stage4 = _stage(widths[:3], widths, modules[2], blocks, norm)

        self.imagenet_head = ImageNetHead(widths, norm) if keep_imagenet_head else None
        channels = widths[:3] if drop_stage4 else self.imagenet_head.channels if keep_imagenet_head else widths
        self.taps = _joined_taps(channels, 1 if full_res_stem else 4)

    def __call__(self, images: FeatureMap, *, train: bool) -> Taps:
        x = conv_norm(self.conv1, self.norm1, images, train=train, then=relu)
        if self.conv2 is not None:
            x = conv_norm(self.conv2, self.norm2, x, train=train, then=relu)
        x = run_blocks(self.layer1, x, train=train)

        branches = run_blocks(self.stage2, self.transition1([x], train=train), train=train)
        branches = run_blocks(self.stage3, self.transition2(branches, train=train), train=train)
        if not self.drop_stage4:
            branches = run_blocks(self.stage4, self.transition3(branches, train=train), train=train)
            if self.imagenet_head is not None:
                branches = self.imagenet_head(branches, train=train)
        return _join(branches)


class HRNet2x(nnx.Module):
    """images (N, H, W, 3) -> Taps of five branches at strides 2, 4, 8, 16, 32 with C, 2C, 4C, 8C, 16C channels.

    Args:
        width: C, the channels of the finest branch.
        blocks: The number of residual blocks per branch of a module.
        modules: The number of modules in stages 1 to 4.
        stage1_width: The channels inside the bottlenecks of the first stage's finer branch.
    """

    def __init__(
        self,
        norm,
        *,
        width: int = 20,
        blocks: int = 4,
        modules: tuple[int, int, int, int] = (1, 1, 4, 3),
        stage1_width: int = 32,
    ):
        widths = tuple(width * 2**branch for branch in range(5))
        first_widths = tuple(stage1_width * Bottleneck.expansion * scale for scale in (1, 2))
        self.conv1 = Conv(3, 64, 3, stride=2, bias=False)
        self.norm1 = norm(64)
        self.transition0, self.stage1 = _stage((64,), first_widths, modules[0], blocks, norm, Bottleneck)
        self.transition1, self.stage2 = _stage(first_widths, widths[:3], modules[1], blocks, norm)
        self.transition2, self.stage3 = _stage(widths[:3], widths[:4], modules[2], blocks, norm)
        self.transition3, self.stage4 = _stage(widths[:4], widths, modules[3], blocks, norm)
        self.taps = _joined_taps(widths, 2)

    def __call__(self, images: FeatureMap, *, train: bool) -> Taps:
        branches = [conv_norm(self.conv1, self.norm1, images, train=train, then=relu)]
        branches = run_blocks(self.stage1, self.transition0(branches, train=train), train=train)
        branches = run_blocks(self.stage2, self.transition1(branches, train=train), train=train)
        branches = run_blocks(self.stage3, self.transition2(branches, train=train), train=train)
        branches = run_blocks(self.stage4, self.transition3(branches, train=train), train=train)
        return _join(branches)


def _stage(widths_in: tuple[int, ...], widths: tuple[int, ...], modules: int, blocks: int, norm, block=BasicBlock):
    stage = nnx.List(ExchangeModule(widths, blocks, norm, block) for _ in range(modules))
    return Transition(widths_in, widths, norm), stage


def _join(branches: list[FeatureMap]) -> Taps:
    joined = concat([resize.bilinear(x, to=branches[0].canvas) for x in branches])
    return Taps(maps=tuple(branches), low=joined, high=joined)


def _joined_taps(channels: tuple[int, ...], stride: int) -> TapSpec:
    joined = Tap(sum(channels), stride)
    return TapSpec(tuple(Tap(c, stride * 2**branch) for branch, c in enumerate(channels)), low=joined, high=joined)


class Transition(nnx.Module):
    """Between stages: adapts the branches whose width changes, and starts a new one at half the lowest resolution."""

    def __init__(self, widths_in: tuple[int, ...], widths_out: tuple[int, ...], norm):
        def path(branch: int):
            if branch >= len(widths_in):
                return ConvNorm(widths_in[-1], widths_out[branch], 3, norm, stride=2)
            same = widths_in[branch] == widths_out[branch]
            return None if same else ConvNorm(widths_in[branch], widths_out[branch], 3, norm)

        self.paths = nnx.List(path(branch) for branch in range(len(widths_out)))

    def __call__(self, branches: list[FeatureMap], *, train: bool) -> list[FeatureMap]:
        sources = [*branches, branches[-1]][: len(self.paths)]
        return [
            x if path is None else path(x, train=train, then=relu) for x, path in zip(sources, self.paths, strict=True)
        ]


class ExchangeModule(Block):
    """Residual blocks in every branch, then each branch becomes the sum of all of them (figure 3 of the paper)."""

    def __init__(self, widths: tuple[int, ...], blocks: int, norm, block=BasicBlock):
        self.branches = nnx.List(
            nnx.List(block(width, width // block.expansion, norm) for _ in range(blocks)) for width in widths
        )
        every = range(len(widths))
        self.fuse = nnx.List(
            nnx.List(None if i == j else ExchangePath(widths, i, j, norm) for i in every) for j in every
        )

    def __call__(self, branches: list[FeatureMap], *, train: bool) -> list[FeatureMap]:
        refined = [chain(blocks, x, train=train) for blocks, x in zip(self.branches, branches, strict=True)]
        fused = []
        for target, paths in zip(refined, self.fuse, strict=True):
            pairs = zip(refined, paths, strict=True)
            parts = [x if path is None else path(x, to=target.canvas, train=train) for x, path in pairs]
            fused.append(relu(functools.reduce(operator.add, parts)))
        return fused


class ExchangePath(nnx.Module):
    """From branch `source` to branch `target`: a 1x1 convolution and upsampling, or a chain of strided 3x3 ones."""

    def __init__(self, widths: tuple[int, ...], source: int, target: int, norm):
        self.upsamples = source > target
        if self.upsamples:
            self.steps = nnx.List([ConvNorm(widths[source], widths[target], 1, norm)])
        else:  # only the last step changes the width
            outs = [widths[source]] * (target - source - 1) + [widths[target]]
            self.steps = nnx.List(ConvNorm(widths[source], out, 3, norm, stride=2) for out in outs)

    def __call__(self, x: FeatureMap, *, to: Canvas, train: bool) -> FeatureMap:
        *early, last = self.steps
        for step in early:
            x = step(x, train=train, then=relu)
        x = last(x, train=train)
        return resize.bilinear(x, to=to) if self.upsamples else x


class ImageNetHead(nnx.Module):
    """The body of the classification head: widens every branch, then folds them downwards, finest first."""

    channels = (128, 256, 512, 2048)

    def __init__(self, widths: tuple[int, ...], norm):
        planes = [width // Bottleneck.expansion for width in (128, 256, 512, 1024)]
        self.widen = nnx.List(Bottleneck(width, plane, norm) for width, plane in zip(widths, planes, strict=True))
        self.down = nnx.List(ConvNorm(width, 2 * width, 3, norm, stride=2, bias=True) for width in (128, 256, 512))
        self.final = ConvNorm(1024, 2048, 1, norm, bias=True)

    def __call__(self, branches: list[FeatureMap], *, train: bool) -> list[FeatureMap]:
        wide = [block(x, train=train) for block, x in zip(self.widen, branches, strict=True)]
        for i, down in enumerate(self.down):
            wide[i + 1] = wide[i + 1] + down(wide[i], train=train, then=relu)
        return [*wide[:3], self.final(wide[3], train=train, then=relu)]
