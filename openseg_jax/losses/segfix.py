"""The loss of SegFix: where boundaries are, and which direction leads off them (SegFixLoss)."""

import jax
import jax.numpy as jnp

from openseg_jax.labels.directions import boundary_labels, quantize
from openseg_jax.losses.cross_entropy import balanced
from openseg_jax.losses.upsampled import Upsampled


def segfix(
    mask: jax.Array,
    direction: jax.Array,
    labels: jax.Array,
    distance: jax.Array,
    angle: jax.Array,
    *,
    min_distance: float = 0,
    max_distance: float = 5,
    mask_threshold: float = 0.5,
    mask_weight: float = 1.0,
    direction_weight: float = 1.0,
    align_axis: bool = False,
    ignore: int = 255,
) -> jax.Array:
    """Returns mask_weight * CE(mask) + direction_weight * CE(direction), with classes weighted by the share of others.

    As in the original, directions are learnt where a boundary is predicted, not where one is. Nothing to learn from, or
    a mask of one class only, gives 0, where the original gives NaN.

    Args:
        mask: (N, h, w, 2) logits, interior and boundary. They are enlarged to the labels.
        direction: (N, h, w, D) logits, which are enlarged, too.
        labels: Integers (N, H, W), of which only `ignore` matters.
        distance: (N, H, W), pixels to the boundary.
        angle: (N, H, W), degrees.
        min_distance: Pixels with a distance from this
        max_distance: to this belong to the boundary.
        mask_threshold: A boundary is predicted where its probability is above this.
        mask_weight: The weight of the mask.
        direction_weight: The weight of the directions.
        align_axis: Whether four directions are centred on the axes, as eight or more always are.
        ignore: The label of pixels that do not count.
    """
    mask, direction = (Upsampled(x, labels.shape[1:]).full() for x in (mask, direction))
    void, num_directions = labels == ignore, direction.shape[-1]

    boundary = boundary_labels(distance, void, min_distance=min_distance, max_distance=max_distance)
    mask_loss = balanced(mask, boundary)

    predicted = jax.nn.softmax(jax.lax.stop_gradient(mask), axis=-1)[..., 1] > mask_threshold
    sector = quantize(angle, num_directions, shifted=num_directions == 4 and not align_axis)
    direction_loss = balanced(direction, jnp.where(void | ~predicted, -1, sector))
    return mask_weight * mask_loss + direction_weight * direction_loss
