"""CE2P (Ruan et al., AAAI 2019, arXiv:1809.05996) for human parsing, with OCR in place of its pyramid pooling.

low -> seg_dsn (auxiliary logits) ---.
high -----------------------> object context -> decoder (with the first stage) -> seg_out1
stages 1, 2, 3 -> edges -> edge_out                              '---- fuse ----> seg_out2
"""

import functools
from typing import Any

import jax
from flax import nnx

from openseg_jax.models import resize
from openseg_jax.models.heads.fcn import PixelClassifier
from openseg_jax.models.heads.ideal_ocr import IdealObjectContext
from openseg_jax.models.heads.ocr import ASPObjectContext, ObjectContext
from openseg_jax.models.layers import ChannelDropout, Conv, ConvNormAct, FeatureMap, chain, concat
from openseg_jax.models.segmentor import Head, Taps, TapSpec, require_same_stride


class CE2PHead(Head):
    """taps -> {"seg_out1", "edge_out", "seg_dsn", "seg_out2"}: (N, h, w, K) logits, edges (N, h, w, 2).

    seg_out2 is the result. Options as in `OCRHead`.

    Args:
        object_context: "asp" (atrous spatial pyramid), "plain", or "ideal", which uses the labels.
        dilations: Those of the pyramid.
        edge_channels: The width of the edge branch and of the decoder.
        detail_channels: The width of what the decoder takes from the first stage.
        context_dropout: The rate behind the object context.
        dropout: The rate elsewhere.
    """

    main_output = "seg_out2"

    def __init__(
        self,
        taps: TapSpec,
        num_classes: int,
        norm,
        *,
        object_context: str = "asp",
        dilations: tuple[int, ...] = (6, 12, 18),
        channels: int = 512,
        key_channels: int = 256,
        edge_channels: int = 256,
        aux_channels: int = 512,
        detail_channels: int = 48,
        context_dropout: float = 0.1,
        dropout: float = 0.1,
    ):
        if len(taps.maps) < 4:
            raise ValueError(f"CE2P needs four taps, this backbone has {len(taps.maps)}")
        contexts: dict[str, Any] = {"plain": ObjectContext, "ideal": IdealObjectContext}
        contexts["asp"] = functools.partial(ASPObjectContext, dilations=dilations)
        if object_context not in contexts:
            raise ValueError(f'object_context must be "asp", "plain" or "ideal", found {object_context!r}')
        self.needs_labels = object_context == "ideal"
        if not self.needs_labels:
            require_same_stride(taps)
        low, high, first = taps.low.channels, taps.high.channels, taps.maps[-4].channels
        self.aux = PixelClassifier(low, num_classes, norm, aux_channels, dropout, transform_bias=False)
        self.edges = EdgeBranch([tap.channels for tap in taps.maps[-4:-1]], edge_channels, norm)
        self.context = contexts[object_context](high, key_channels, channels, norm, dropout=context_dropout)
        self.decoder = Decoder(channels, first, edge_channels, num_classes, norm, detail_channels, dropout)
        self.fuse = ConvNormAct(4 * edge_channels, edge_channels, 1, norm)
        self.classify = Conv(edge_channels, num_classes, 1)

    def __call__(
        self, taps: Taps, *, labels: FeatureMap | None = None, train: bool, rngs: jax.Array | None = None
    ) -> dict[str, FeatureMap]:
        aux_rng, context_rng, decoder_rng = (None,) * 3 if rngs is None else jax.random.split(rngs, 3)
        aux = self.aux(taps.low, train=train, rngs=aux_rng)
        edge_logits, edges = self.edges(taps.maps[-4:-1], train=train)
        truth = {"labels": labels} if self.needs_labels else {}
        context = self.context(taps.high, aux, train=train, rngs=context_rng, **truth)
        logits, decoded = self.decoder(context, taps.maps[-4], train=train, rngs=decoder_rng)
        fused = self.fuse(concat([decoded, edges]), train=train)
        return {"seg_out1": logits, "edge_out": edge_logits, "seg_dsn": aux, "seg_out2": self.classify(fused)}


class EdgeBranch(nnx.Module):
    """Edges of three stages: maps, finest first -> logits (N, h, w, 2) and features (N, h, w, 3 C) at the finest."""

    def __init__(self, in_channels: list[int], channels: int, norm):
        self.transforms = nnx.List(ConvNormAct(c, channels, 1, norm) for c in in_channels)
        self.detect = Conv(channels, 2, 3)  # one for all stages
        self.fuse = Conv(2 * len(in_channels), 2, 1)

    def __call__(self, maps: tuple[FeatureMap, ...], *, train: bool) -> tuple[FeatureMap, FeatureMap]:
        features = [transform(x, train=train) for transform, x in zip(self.transforms, maps, strict=True)]
        edges = [self.detect(x) for x in features]
        to = features[0].canvas
        features, edges = (concat([resize.bilinear(x, to=to) for x in stages]) for stages in (features, edges))
        return self.fuse(edges), features


class Decoder(nnx.Module):
    """Joins context with the details of an early stage: -> logits (N, h, w, K), features (N, h, w, C)."""

    def __init__(self, in_channels, detail_in, channels, num_classes, norm, detail_channels: int, dropout: float):
        self.context = ConvNormAct(in_channels, channels, 1, norm)
        self.detail = ConvNormAct(detail_in, detail_channels, 1, norm)
        self.fuse = nnx.List([ConvNormAct(c, channels, 1, norm) for c in (channels + detail_channels, channels)])
        self.dropout = ChannelDropout(dropout)
        self.classify = Conv(channels, num_classes, 1)

    def __call__(self, context: FeatureMap, detail: FeatureMap, *, train: bool, rngs: jax.Array | None):
        context = resize.bilinear(self.context(context, train=train), to=detail.canvas)
        x = concat([context, self.detail(detail, train=train)])
        x = self.dropout(chain(self.fuse, x, train=train), train=train, rngs=rngs)
        return self.classify(x), x
