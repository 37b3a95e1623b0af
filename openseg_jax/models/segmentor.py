"""Backbone + head -> named outputs, and what the one hands to the other."""

import dataclasses
from typing import Any, NamedTuple

import jax
from flax import nnx

from openseg_jax.models import resize
from openseg_jax.models.layers import FeatureMap


class Tap(NamedTuple):
    """The channels and the stride of one feature map that a backbone promises."""

    channels: int
    stride: int  # of the images, in pixels


class Taps(NamedTuple):
    """The feature maps that a backbone gives."""

    maps: tuple[FeatureMap, ...]  # every tap, finest first, as the original returns them
    low: FeatureMap  # what auxiliary classifiers read: the last but one stage of a ResNet
    high: FeatureMap  # what the head reads; HRNet has one map for both: all branches joined at the finest resolution


class TapSpec(NamedTuple):
    """What a backbone promises of its `Taps` before they exist, for heads to be built on."""

    maps: tuple[Tap, ...]
    low: Tap
    high: Tap


def require_same_stride(taps: TapSpec) -> None:
    """Raises ValueError if the low and the high tap have different resolutions."""
    if taps.low.stride != taps.high.stride:
        raise ValueError(
            "OCR gathers pixels of the last stage by regions of the one before, but the last two stages of this "
            f"backbone have strides {taps.low.stride} and {taps.high.stride}; "
            "take one that ends in _dilated8 or _dilated16, or an HRNet"
        )


class Head(nnx.Module):
    """taps -> a dict of logits (N, h, w, channels). Made as Head(taps, num_classes, norm, **options)."""

    main_output = "out"  # which of the outputs is the segmentation
    full_size = True  # whether outputs are upsampled to the images
    needs_classes = True  # whether num_classes means anything
    needs_labels = False  # whether it is called with `labels`: a FeatureMap (N, H, W, 1) of class ids, -1 to ignore


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """How a model was made, so that it can be made again: `create(**spec.to_dict())`. Stored with every checkpoint."""

    name: str
    num_classes: int | None
    backbone: str
    norm: tuple[str, str]
    dtype: str
    options: tuple[tuple[str, object], ...]

    def to_dict(self) -> dict:
        fields = dataclasses.asdict(self) | dict(self.options)
        del fields["options"]
        return fields


class Segmentor(nnx.Module):
    """images (N, H, W, 3) -> {"out": ..., ...}: (N, H, W, K) float32 logits at the size of the images.

    With head=None it is the bare backbone: {"tap0": ..., "tap1": ...}, each at its own resolution.
    """

    def __init__(self, spec: ModelSpec, backbone: nnx.Module, head: Head | None):
        self.spec = spec
        self.backbone: Any = backbone
        self.head = head

    @property
    def main_output(self) -> str:
        """The name of the output that is the segmentation."""
        return "" if self.head is None else self.head.main_output

    def __call__(
        self, images: FeatureMap, *, labels: FeatureMap | None, train: bool, rngs: jax.Array | None, upsample
    ) -> dict[str, FeatureMap]:
        taps = self.backbone(images, train=train)
        if self.head is None:
            return {f"tap{i}": tap.replace(tap.wide) for i, tap in enumerate(taps.maps)}
        truth = {"labels": labels} if self.head.needs_labels else {}
        logits = {name: x.replace(x.wide) for name, x in self.head(taps, train=train, rngs=rngs, **truth).items()}
        if self.head.full_size if upsample is None else upsample:
            logits = {name: resize.bilinear(x, to=images.canvas) for name, x in logits.items()}
        return logits
