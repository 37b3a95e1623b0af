"""Online hard example mining (Shrivastava et al. 2016), with the original's selection rule (FSOhemCELoss)."""

import jax
import jax.numpy as jnp

from openseg_jax.losses.cross_entropy import Weights, check_weights, negative_log_likelihood, pixel_weights
from openseg_jax.losses.upsampled import Logits


def ohem(
    logits: Logits,
    labels: jax.Array,
    *,
    threshold: float,
    min_kept: int,
    ignore: int = 255,
    class_weights: Weights = None,
    reduction: str = "mean",
    first_pixel: bool = True,
) -> jax.Array:
    """Returns the mean cross-entropy of hard pixels.

    Pixels are kept if their class has a probability below max(threshold, that of the k-th hardest pixel), where k is
    max(1, min_kept), counted from 0. If none is kept the result is 0, where the original gives NaN.

    Args:
        logits: (N, h, w, K) floats.
        labels: (N, h, w) integers on the same grid.
        threshold: A probability.
        min_kept: The number of pixels that are kept at least.
        ignore: The label of pixels that do not count.
        class_weights: K numbers. They scale the loss of each pixel; "mean" divides by the number of pixels kept.
        reduction: "mean" or "sum".
        first_pixel: Whether the very first pixel counts even if it is ignored, as in the original; it adds 0.

    Raises:
        InputError: If the number of class weights is not that of the classes.
        ValueError: If the grids differ.
    """
    check_weights(class_weights, logits.shape[-1])
    if logits.shape[:3] != labels.shape:
        raise ValueError(f"OHEM wants labels on the grid of the logits, found {labels.shape} and {logits.shape[:3]}")
    valid = labels != ignore
    losses = negative_log_likelihood(logits, jnp.where(valid, labels, 0))
    probability = jnp.exp(-jax.lax.stop_gradient(losses)).astype(jnp.float32)
    candidate = valid
    if first_pixel:
        candidate = valid | (jnp.arange(valid.size).reshape(valid.shape) == 0)

    hardest = kth_smallest(probability, candidate, max(1, min_kept))
    kept = candidate & (probability < jnp.maximum(hardest, jnp.float32(threshold)))
    weights = pixel_weights(labels, ignore, class_weights, losses.dtype)
    total = jnp.sum(jnp.where(kept, weights * losses, 0))
    return total if reduction == "sum" else total / jnp.maximum(jnp.sum(kept), 1)


def kth_smallest(values: jax.Array, mask: jax.Array, k: int) -> jax.Array:
    """Returns the k-th smallest of the float32 values >= 0 where `mask` is true, or the largest if there are fewer.

    k counts from 0. It bisects over the bit patterns of float32, which are ordered like the numbers: 31 counting
    passes in place of a sort, and on a sharded batch 31 sums of one number in place of gathering all pixels.
    """
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)
    wanted = jnp.minimum(k, jnp.sum(mask) - 1) + 1

    def halve(_, bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        enough = jnp.sum(mask & (bits <= middle)) >= wanted
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    largest = jnp.iinfo(jnp.int32).max
    low, _ = jax.lax.fori_loop(0, 31, halve, (jnp.int32(0), jnp.int32(largest)))
    return jax.lax.bitcast_convert_type(low, jnp.float32)
