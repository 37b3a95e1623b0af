"""The loss of CE2P (Ruan et al., AAAI 2019, arXiv:1809.05996), which the original names but does not contain."""

import jax
import jax.numpy as jnp

from openseg_jax.losses.cross_entropy import Weights, balanced, cross_entropy
from openseg_jax.losses.upsampled import Logits
from openseg_jax.models.layers import FeatureMap
from openseg_jax.models.pooling import max_pool


def ce2p(
    outputs: dict[str, Logits],
    labels: jax.Array,
    edges: jax.Array | None = None,
    *,
    aux_weight: float = 0.4,
    edge_weight: float = 1.0,
    parsing_weight: float = 1.0,
    out_weight: float = 1.0,
    class_weights: Weights = None,
    ignore: int = 255,
) -> jax.Array:
    """Returns the sum of four cross-entropies: parsing before and after the fusion, edges, and auxiliary output.

    Edge pixels and the others weigh as much in sum, as in the paper's own code.

    Args:
        outputs: Logits (N, H, W, K): seg_out1 before the fusion, seg_out2 after it, seg_dsn; edge_out (N, H, W, 2).
        labels: Integers (N, H, W).
        edges: (N, H, W), 1 on boundaries; None takes the boundaries of the labels.
        aux_weight: The weight of seg_dsn, which is auxiliary.
        edge_weight: The weight of edge_out.
        parsing_weight: The weight of seg_out1.
        out_weight: The weight of seg_out2.
        class_weights: K numbers, the weights of the classes.
        ignore: The label of pixels that do not count.
    """
    if edges is None:
        edges = class_boundaries(labels, ignore)
    edges = jnp.where(labels == ignore, -1, edges.astype(jnp.int32))
    parsing = {"seg_out1": parsing_weight, "seg_out2": out_weight, "seg_dsn": aux_weight}
    total = edge_weight * balanced(outputs["edge_out"], edges)
    for name, weight in parsing.items():
        total += weight * cross_entropy(outputs[name], labels, ignore=ignore, class_weights=class_weights)
    return total


def class_boundaries(labels: jax.Array, ignore: int = 255, width: int = 3) -> jax.Array:
    """Returns int32 (N, H, W), 1 on the pixels that the original's edge generator marks and `width` // 2 around them.

    Where two neighbours have different classes and neither is ignored, it marks the lower or the left one, and the
    upper one of a diagonal pair.
    """
    padded = jnp.pad(labels, ((0, 0), (1, 1), (1, 1)), constant_values=ignore)
    marked = jnp.zeros(labels.shape, bool)
    for down, right in ((-1, 0), (0, 1), (1, 1), (1, -1)):
        rows, columns = slice(1 + down, padded.shape[1] - 1 + down), slice(1 + right, padded.shape[2] - 1 + right)
        other = padded[:, rows, columns]
        marked |= (labels != other) & (labels != ignore) & (other != ignore)
    edges = FeatureMap(marked[..., None].astype(jnp.float32))
    return max_pool(edges, width, stride=1, padding=width // 2).values[..., 0].astype(jnp.int32)
