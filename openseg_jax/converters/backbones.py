"""The module names of the original's backbones: one list of substitutions per family.

The substitutions are applied in order to module paths such as "backbone.stages.0.1.conv2". A name that ends in * is a
norm with its activation: a Sequential of two layers, or a single inplace_abn.
"""

import re
from collections.abc import Mapping

from openseg_jax.models.backbones.hrnet import HRNet, HRNet2x
from openseg_jax.models.backbones.resnest import ResNeSt
from openseg_jax.models.backbones.resnet import ResNet
from openseg_jax.models.backbones.wide_resnet import WideResNet

_UNITS = [(r"\.conv$", r".0"), (r"\.norm$", r".1")]  # a ConvNorm is a Sequential
_NORMS = [(r"\.norm(\d)$", r".bn\1")]
_STAGES = [(r"stages\.(\d)", lambda m: f"layer{int(m[1]) + 1}")]


def _hrnet(extra_branches: int) -> list:
    """Returns the substitutions of an HRNet whose stage s has s + extra_branches branches."""

    def transition(match: re.Match) -> str:
        stage, path = int(match[1]), int(match[2])
        # A new branch is a Sequential in a Sequential.
        return f"transition{stage}.{path}" + (".0" if path == stage + extra_branches else "")

    def fuse(match: re.Match) -> str:
        target, source, step = match.groups()
        # Upsampling paths are one Sequential, downsampling paths a Sequential of Sequentials.
        return f"fuse_layers.{target}.{source}" + ("" if int(source) > int(target) else f".{step}")

    return [
        (r"transition(\d)\.paths\.(\d)", transition),
        (r"fuse\.(\d)\.(\d)\.steps\.(\d)", fuse),
        (r"imagenet_head\.widen\.(\d)", r"incre_modules.\1.0"),
        (r"imagenet_head\.down\.(\d)", r"downsamp_modules.\1"),
        (r"imagenet_head\.final", r"final_layer"),
        *_UNITS,
        *_NORMS,
    ]


FAMILIES: dict[type, list] = {
    HRNet: _hrnet(extra_branches=0),
    HRNet2x: _hrnet(extra_branches=1),
    ResNet: [
        (r"stem\.(\d)\.conv$", lambda m: f"resinit.conv{int(m[1]) + 1}"),
        (r"stem\.(\d)\.norm$", lambda m: f"resinit.bn{int(m[1]) + 1}"),
        *_STAGES,
        *_UNITS,
        *_NORMS,
    ],
    ResNeSt: [
        (r"stem\.(\d)\.conv$", lambda m: f"conv1.{3 * int(m[1])}"),
        (r"stem\.2\.norm$", r"bn1"),
        (r"stem\.(\d)\.norm$", lambda m: f"conv1.{3 * int(m[1]) + 1}"),
        (r"downsample\.conv$", r"downsample.1"),  # behind an average pool
        (r"downsample\.norm$", r"downsample.2"),
        *_STAGES,
        *_NORMS,
    ],
    WideResNet: [
        (r"backbone\.conv1$", r"backbone.mod1.conv1"),
        (r"stages\.(\d)\.(\d)", lambda m: f"mod{int(m[1]) + 2}.block{int(m[2]) + 1}"),
        (r"\.norms\.0$", r".bn1*"),
        (r"\.norms\.(\d)$", lambda m: f".convs.bn{int(m[1]) + 1}*"),
        (r"\.convs\.(\d)$", lambda m: f".convs.conv{int(m[1]) + 1}"),
        (r"projection$", r"proj_conv"),
        (r"norm_out$", r"bn_out*"),
    ],
}

# ImageNet files also hold a classifier, and those of HRNet the body of its head, which a net may or may not have.
CLASSIFIER = re.compile(r"backbone\.(classifier\.|fc\.|last_linear\.)")
IMAGENET_BODY = re.compile(r"backbone\.(incre_modules|downsamp_modules|final_layer)\.")


def with_backbone_prefix(state_dict: Mapping) -> dict:
    """Renames the keys of an ImageNet file to those of a segmentation net."""
    if any(key.startswith("backbone.") for key in state_dict):
        return dict(state_dict)
    is_resnet = "layer4.0.conv1.weight" in state_dict and "conv1.weight" in state_dict
    stem = re.compile(r"(conv|bn)\d\.")
    return {
        f"backbone.resinit.{key}" if is_resnet and stem.match(key) else f"backbone.{key}": value
        for key, value in state_dict.items()
    }
