"""Backbone + head -> named outputs."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from openseg_jax.models import resize
from openseg_jax.models.heads.head import Head
from openseg_jax.models.layers import FeatureMap


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
        self,
        images: FeatureMap,
        *,
        labels: FeatureMap | None,
        train: bool,
        rngs: jax.Array | None,
        upsample: bool | None,
    ) -> dict[str, FeatureMap]:
        taps = self.backbone(images, train=train)
        if self.head is None:
            return {f"tap{i}": _wide(tap) for i, tap in enumerate(taps.maps)}
        truth = {"labels": labels} if self.head.needs_labels else {}
        logits = {name: _wide(x) for name, x in self.head(taps, train=train, rngs=rngs, **truth).items()}
        if self.head.full_size if upsample is None else upsample:
            logits = {name: resize.bilinear(x, to=images.canvas, align_corners=True) for name, x in logits.items()}
        return logits


def _wide(x: FeatureMap) -> FeatureMap:
    """Casts to at least float32, whatever the compute dtype."""
    return x.replace(x.values.astype(jnp.promote_types(x.values.dtype, jnp.float32)))
