"""HRNet + OCR in plain PyTorch, with the parameter names of openseg.pytorch: the other side of every comparison.

Written from the papers and the specification of the original's behaviour, to be measured against and to be tested
against (strict loading of exported checkpoints, training trajectories). Not part of the installed package.
"""

import torch
import torch.nn.functional as F
from torch import nn


def resize(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


def conv_norm(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def conv_norm_act(in_channels: int, out_channels: int, kernel: int) -> tuple[nn.Conv2d, nn.Sequential]:
    """Two entries of a Sequential, as in the original's heads."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
    return conv, nn.Sequential(nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


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
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(w) for _ in range(blocks))) for w in widths)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self.path(widths, source, target) for source in range(len(widths)))
            for target in range(len(widths))
        )

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
        for target, paths in enumerate(self.fuse_layers):
            parts = [x if path is None else path(x) for path, x in zip(paths, xs, strict=True)]
            parts = [resize(p, xs[target]) if source > target else p for source, p in enumerate(parts)]
            fused.append(F.relu(sum(parts[1:], parts[0])))
        return fused


class HRNet(nn.Module):
    def __init__(self, width: int, blocks: int = 4, modules=(1, 4, 3), layer1_blocks: int = 4, layer1_width: int = 64):
        super().__init__()
        widths = [width * 2**i for i in range(4)]
        self.conv1, self.bn1 = conv_norm(3, 64, 3, stride=2)
        self.conv2, self.bn2 = conv_norm(64, 64, 3, stride=2)
        out = 4 * layer1_width
        self.layer1 = nn.Sequential(*(Bottleneck(64 if i == 0 else out, layer1_width) for i in range(layer1_blocks)))
        self.transition1 = nn.ModuleList(
            [conv_norm(out, widths[0], 3), nn.Sequential(conv_norm(out, widths[1], 3, stride=2))]
        )
        for stage in (2, 3):
            new = nn.Sequential(conv_norm(widths[stage - 1], widths[stage], 3, stride=2))
            setattr(self, f"transition{stage}", nn.ModuleList([None] * stage + [new]))
        for stage, count in zip((2, 3, 4), modules, strict=True):
            repeated = (ExchangeModule(widths[:stage], blocks) for _ in range(count))
            setattr(self, f"stage{stage}", nn.Sequential(*repeated))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        xs = [self.layer1(x)]
        for stage in (2, 3, 4):
            transitions = getattr(self, f"transition{stage - 1}")
            sources = [*xs, xs[-1]]
            xs = [x if t is None else F.relu(t(x)) for t, x in zip(transitions, sources, strict=True)]
            xs = getattr(self, f"stage{stage}")(xs)
        return xs


class ObjectAttention(nn.Module):
    def __init__(self, channels: int, key_channels: int):
        super().__init__()
        two = lambda: conv_norm_act(channels, key_channels, 1) + conv_norm_act(key_channels, key_channels, 1)  # noqa: E731
        self.f_pixel = nn.Sequential(*two())
        self.f_object = nn.Sequential(*two())
        self.f_down = nn.Sequential(*conv_norm_act(channels, key_channels, 1))
        self.f_up = nn.Sequential(*conv_norm_act(key_channels, channels, 1))

    def forward(self, x, regions):
        query = self.f_pixel(x).flatten(2).transpose(1, 2)  # N, hw, k
        key = self.f_object(regions).flatten(2)  # N, k, K
        value = self.f_down(regions).flatten(2).transpose(1, 2)  # N, K, k
        affinity = torch.softmax(query @ key * key.shape[1] ** -0.5, dim=-1)
        context = (affinity @ value).transpose(1, 2)
        return self.f_up(context.reshape(x.shape[0], -1, *x.shape[2:]))


class OCRModule(nn.Module):
    def __init__(self, channels: int, key_channels: int, dropout: float):
        super().__init__()
        self.object_context_block = ObjectAttention(channels, key_channels)
        self.conv_bn_dropout = nn.Sequential(*conv_norm_act(2 * channels, channels, 1), nn.Dropout2d(dropout))

    def forward(self, x, regions):
        return self.conv_bn_dropout(torch.cat([self.object_context_block(x, regions), x], dim=1))


class OCRHead(nn.Module):
    """On the joined branches of any backbone: (N, C, h, w) -> aux and out logits at that resolution."""

    def __init__(self, in_channels: int, num_classes: int, channels: int = 512, key_channels: int = 256, dropout=0.05):
        super().__init__()
        self.conv3x3 = nn.Sequential(*conv_norm_act(in_channels, channels, 3))
        self.ocr_distri_head = OCRModule(channels, key_channels, dropout)
        self.cls_head = nn.Conv2d(channels, num_classes, 1)
        self.aux_head = nn.Sequential(
            *conv_norm_act(in_channels, in_channels, 3), nn.Conv2d(in_channels, num_classes, 1)
        )

    def forward(self, x):
        aux = self.aux_head(x)
        pixels = self.conv3x3(x)
        weights = torch.softmax(aux.flatten(2), dim=2)
        regions = (pixels.flatten(2) @ weights.transpose(1, 2)).unsqueeze(3)  # N, C, K, 1
        return aux, self.cls_head(self.ocr_distri_head(pixels, regions))


class HRNetOCR(OCRHead):
    """images (N, 3, H, W) -> (aux, out) logits at the size of the images; keys as hrnet_w48_ocr of the original."""

    def __init__(self, num_classes: int, *, channels: int = 512, key_channels: int = 256, dropout=0.05, **backbone):
        super().__init__(15 * backbone["width"], num_classes, channels, key_channels, dropout)
        self.backbone = HRNet(**backbone)

    def forward(self, images):
        xs = self.backbone(images)
        joined = torch.cat([resize(x, xs[0]) for x in xs], dim=1)
        return tuple(resize(logits, images) for logits in super().forward(joined))
