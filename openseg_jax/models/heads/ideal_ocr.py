"""OCR with the ground truth in place of a prediction: the upper bounds of the paper (section 3.3, "ideal" OCR).

The labels decide which pixels make up a region (gather), which regions a pixel sees (distribute), or both. Where
labels gather, pixels to be ignored form a region of their own, the last one.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from openseg_jax.models import resize
from openseg_jax.models.heads.ocr import ObjectAttention, OCRHead, gather
from openseg_jax.models.layers import ChannelDropout, ConvNormAct, FeatureMap, concat
from openseg_jax.models.segmentor import TapSpec, require_same_stride


def label_regions(labels: FeatureMap, like: FeatureMap, regions: int) -> FeatureMap:
    """Resizes labels (N, H, W, 1) to `like` and returns their one-hot codes (N, h, w, regions); -1 is the last region.

    With K + 1 regions, ignored pixels have one of their own. With K they count as class K - 1: so does the original
    where labels distribute only.
    """
    ids = resize.nearest(labels, to=like.canvas).values[..., 0]
    one_hot = jax.nn.one_hot(jnp.where(ids < 0, regions - 1, ids).astype(jnp.int32), regions, dtype=like.values.dtype)
    return like.replace(one_hot).zero_outside()


def gather_labelled(pixels: FeatureMap, regions: FeatureMap) -> FeatureMap:
    """Takes the mean of the pixels of each region, (N, K, 1, C), which is 0 for regions without any."""
    wide = jnp.promote_types(regions.values.dtype, jnp.float32)
    count = jnp.sum(regions.values, axis=(1, 2), keepdims=True, dtype=wide)
    weights = (regions.values / jnp.maximum(count, 1e-12)).astype(pixels.values.dtype)
    return FeatureMap(jnp.einsum("nhwk,nhwc->nkc", weights, pixels.values)[:, :, None])


class IdealObjectContext(nnx.Module):
    """`ObjectContext` that uses labels: pixels, logits, labels -> (N, h, w, out_channels).

    gathers, distributes: whether labels do so; otherwise soft regions, and attention.
    background: also a context of all *other* regions, joined ("with") or instead of that of the own one ("only").
    """

    def __init__(
        self, channels, key_channels, out_channels, norm, dropout, gathers=True, distributes=True, background="without"
    ):
        if background not in ("without", "with", "only"):
            raise ValueError(f'background must be "without", "with" or "only", found {background!r}')
        self.gathers, self.distributes, self.background = gathers, distributes, background
        self.attend = ObjectAttention(channels, key_channels, norm)
        parts = 3 if background == "with" else 2
        self.fuse = ConvNormAct(parts * channels, out_channels, 1, norm, bias=True)
        self.dropout = ChannelDropout(dropout)

    def __call__(self, pixels, logits, *, labels: FeatureMap, train: bool, rngs: jax.Array | None) -> FeatureMap:
        truth = label_regions(labels, pixels, logits.shape[-1] + self.gathers)
        regions = gather_labelled(pixels, truth) if self.gathers else gather(pixels, logits)
        return self.augment(pixels, regions, truth, train=train, rngs=rngs)

    def augment(self, pixels, regions, truth: FeatureMap, *, train: bool, rngs: jax.Array | None) -> FeatureMap:
        """Joins the pixels with the contexts that these regions give them."""
        # Attention runs even where labels replace it: its batch statistics are part of the original's checkpoints.
        affinity = self.attend.affinity(pixels, regions, train=train)
        value = self.attend.value(regions, train=train)
        contexts = [self.attend.distribute(truth if self.distributes else affinity, value, train=train)]
        if self.background != "without":
            others = (1 - truth.values) / (truth.shape[-1] - 1)
            contexts.append(self.attend.distribute(pixels.replace(others).zero_outside(), value, train=train))
        if self.background == "only":
            contexts = contexts[1:]
        return self.dropout(self.fuse(concat([*contexts, pixels]), train=train), train=train, rngs=rngs)


class IdealOCRHead(OCRHead):
    """taps, labels -> {"aux", "out"}: (N, h, w, K) logits. Options as in `OCRHead`.

    Args:
        gathers: Whether labels gather.
        distributes: Whether labels distribute.
        background: "with" adds a context of all other regions, "only" takes it in place of that of the own region.
    """

    needs_labels = True

    def __init__(
        self,
        taps: TapSpec,
        num_classes: int,
        norm,
        *,
        gathers: bool = True,
        distributes: bool = True,
        background: str = "without",
        channels: int = 512,
        key_channels: int = 256,
        aux_channels: int = 512,
        dropout: float = 0.05,
        aux_dropout: float = 0.05,
    ):
        if not gathers:
            require_same_stride(taps)
        widths = {"channels": channels, "key_channels": key_channels, "aux_channels": aux_channels}
        super().__init__(taps, num_classes, norm, **widths, dropout=dropout, aux_dropout=aux_dropout)
        truth = {"gathers": gathers, "distributes": distributes, "background": background}
        self.context = IdealObjectContext(channels, key_channels, channels, norm, dropout=dropout, **truth)
