"""HRNet + OCR in plain PyTorch, with the parameter names of openseg.pytorch: the other side of every comparison.

It is written from the papers and from the specification of the original's behaviour. Benchmarks measure against it, and
tests compare with it (exported checkpoints load strictly, training follows the same trajectory). The installed package
does not contain it.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import nn

SMALL = {"width": 16, "blocks": 2, "modules": (1, 1, 1), "layer1_blocks": 1, "layer1_width": 32}


def options_of(hrnet: str) -> dict:
    """Returns the options of `HRNetOCR` for what openseg_jax calls hrnet_w{hrnet}_ocr: 18_small_v1, 18, 32, 48, 64."""
    return SMALL if hrnet == "18_small_v1" else {"width": int(hrnet)}


def resize(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


def conv_norm(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def conv_norm_act(*channels: int, kernel: int = 1) -> nn.Sequential:
    """Convolutions from each number of channels to the next, nested as in the original's heads."""
    layers = nn.Sequential()
    for c_in, c_out in itertools.pairwise(channels):
        layers.append(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2))
        layers.append(nn.Sequential(nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)))
    return layers


class BasicBlock(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.bn1 = conv_norm(channels, channels, 3)
        self.conv2, self.bn2 = conv_norm(channels, channels, 3)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + x, inplace=True)


class Bottleneck(nn.Module):
    def __init__(self, in_channels: int, width: int):
        super().__init__()
        self.conv1, self.bn1 = conv_norm(in_channels, width, 1)
        self.conv2, self.bn2 = conv_norm(width, width, 3)
        self.conv3, self.bn3 = conv_norm(width, 4 * width, 1)
        self.downsample = None if in_channels == 4 * width else conv_norm(in_channels, 4 * width, 1)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn3(self.conv3(y)) + shortcut, inplace=True)


class ExchangeModule(nn.Module):
    def __init__(self, widths: list[int], blocks: int):
        super().__init__()
        numbers = range(len(widths))
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(w) for _ in range(blocks))) for w in widths)
        self.fuse_layers = nn.ModuleList(nn.ModuleList(self.path(widths, s, t) for s in numbers) for t in numbers)

    @staticmethod
    def path(widths, source, target):
        if source == target:
            return None
        if source > target:
            return conv_norm(widths[source], widths[target], 1)
        outs = [widths[source]] * (target - source - 1) + [widths[target]]
        steps = [conv_norm(widths[source], out, 3, stride=2) for out in outs]
        for step in steps[:-1]:
            step.append(nn.ReLU(inplace=True))
        return nn.Sequential(*steps)

    def forward(self, xs):
        xs = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        fused = []
        for target, paths in zip(xs, self.fuse_layers, strict=True):
            parts = [x if path is None else path(x) for path, x in zip(paths, xs, strict=True)]
            parts = [resize(part, target) for part in parts]
            fused.append(F.relu(sum(parts[1:], parts[0])))
        return fused


class HRNet(nn.Module):
    def __init__(self, width: int, blocks: int = 4, modules=(1, 4, 3), layer1_blocks: int = 4, layer1_width: int = 64):
        super().__init__()
        widths, out = [width * 2**i for i in range(4)], 4 * layer1_width
        self.conv1, self.bn1 = conv_norm(3, 64, 3, stride=2)
        self.conv2, self.bn2 = conv_norm(64, 64, 3, stride=2)
        self.layer1 = nn.Sequential(*(Bottleneck(64 if i == 0 else out, layer1_width) for i in range(layer1_blocks)))
        same, last = [conv_norm(out, widths[0], 3)], out
        for stage, count in zip((2, 3, 4), modules, strict=True):
            new = nn.Sequential(conv_norm(last, widths[stage - 1], 3, stride=2))
            self.add_module(f"transition{stage - 1}", nn.ModuleList([*same, new]))
            repeated = (ExchangeModule(widths[:stage], blocks) for _ in range(count))
            self.add_module(f"stage{stage}", nn.Sequential(*repeated))
            same, last = [None] * stage, widths[stage - 1]

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        xs = [self.layer1(x)]
        for stage in (2, 3, 4):
            transitions = self.get_submodule(f"transition{stage - 1}")
            xs = [x if t is None else F.relu(t(x)) for t, x in zip(transitions, [*xs, xs[-1]], strict=True)]
            xs = self.get_submodule(f"stage{stage}")(xs)
        return xs


class OCRModule(nn.Module):
    """Pixels (N, C, h, w) and regions (N, C, K, 1) -> pixels with the context of the regions, (N, C, h, w)."""

    def __init__(self, channels: int, key_channels: int, dropout: float):
        super().__init__()
        to_keys, to_values = (channels, key_channels, key_channels), (channels, key_channels)
        chains = {"f_pixel": to_keys, "f_object": to_keys, "f_down": to_values, "f_up": (key_channels, channels)}
        self.object_context_block = nn.ModuleDict({name: conv_norm_act(*chain) for name, chain in chains.items()})
        self.conv_bn_dropout = conv_norm_act(2 * channels, channels).append(nn.Dropout2d(dropout))

    def forward(self, x, regions):
        f = self.object_context_block
        query = f["f_pixel"](x).flatten(2).transpose(1, 2)  # N, hw, k
        key = f["f_object"](regions).flatten(2)  # N, k, K
        value = f["f_down"](regions).flatten(2).transpose(1, 2)  # N, K, k
        affinity = torch.softmax(query @ key * key.shape[1] ** -0.5, dim=-1)
        context = (affinity @ value).transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])
        return self.conv_bn_dropout(torch.cat([f["f_up"](context), x], dim=1))


class HRNetOCR(nn.Module):
    """images (N, 3, H, W) -> (aux, out) logits at the size of the images; keys as hrnet_w48_ocr of the original."""

    def __init__(self, num_classes: int, *, channels: int = 512, key_channels: int = 256, dropout=0.05, **backbone):
        super().__init__()
        joined = 15 * backbone["width"]
        self.backbone = HRNet(**backbone)
        self.conv3x3 = conv_norm_act(joined, channels, kernel=3)
        self.ocr_distri_head = OCRModule(channels, key_channels, dropout)
        self.cls_head = nn.Conv2d(channels, num_classes, 1)
        self.aux_head = conv_norm_act(joined, joined, kernel=3).append(nn.Conv2d(joined, num_classes, 1))

    def forward(self, images):
        xs = self.backbone(images)
        x = torch.cat([resize(x, xs[0]) for x in xs], dim=1)
        aux, pixels = self.aux_head(x), self.conv3x3(x)
        weights = torch.softmax(aux.flatten(2), dim=2)
        regions = (pixels.flatten(2) @ weights.transpose(1, 2)).unsqueeze(3)  # N, C, K, 1
        out = self.cls_head(self.ocr_distri_head(pixels, regions))
        return resize(aux, images), resize(out, images)
