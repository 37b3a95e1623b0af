"""Cross-entropy over pixels, with the original's conventions (FSCELoss)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax.errors import InputError
from openseg_jax.losses.upsampled import Logits, map_pixels
from openseg_jax.models.resize import nearest_taps

Weights = Sequence[float] | jax.Array | None


def cross_entropy(
    logits: Logits, labels: jax.Array, *, ignore: int = 255, class_weights: Weights = None, reduction: str = "mean"
) -> jax.Array:
    """Returns the weighted cross-entropy, a scalar of the dtype of the logits.

    A batch in which everything is ignored gives 0, where the original gives NaN.

    Args:
        logits: (N, h, w, K) floats.
        labels: (N, H, W) integers, which are resized to (h, w) by torch's nearest rule.
        ignore: The label of pixels that do not count.
        class_weights: K numbers, the weights of the classes.
        reduction: "mean" divides by the sum of the weights of counted pixels, "sum" does not; "none" gives (N, h, w).

    Raises:
        InputError: If the number of class weights is not that of the classes.
    """
    check_weights(class_weights, logits.shape[-1])
    labels = resize_labels(labels, logits.shape[1:3])
    weights = pixel_weights(labels, ignore, class_weights, logits.dtype)
    losses = weights * negative_log_likelihood(logits, jnp.where(labels == ignore, 0, labels))
    if reduction == "none":
        return losses
    total = jnp.sum(losses)
    return total if reduction == "sum" else _ratio(total, jnp.sum(weights))


def check_weights(class_weights: Weights, num_classes: int) -> None:
    """Raises InputError if the number of class weights is not that of the classes: an index beyond would be clamped."""
    if class_weights is not None and len(class_weights) != num_classes:
        raise InputError(f"{len(class_weights)} class weights do not fit {num_classes} classes: see loss.class_weights")


def negative_log_likelihood(logits: Logits, labels: jax.Array) -> jax.Array:
    """Returns -log softmax(logits)[label] of each pixel, (N, H, W)."""
    return map_pixels(_of_pixels, logits, labels)


@jax.custom_vjp
def _of_pixels(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """log sum exp(logits) - logits[label], of gradient softmax(logits) - one_hot(label): (..., K), (...) -> (...).

    Differentiated by JAX it would store several arrays of the size of the logits.
    """
    return _of_pixels_forward(logits, labels)[0]


def _of_pixels_forward(logits, labels):
    top = jnp.max(logits, axis=-1, keepdims=True)
    below = logits - top  # small numbers stay exact where one class is certain
    total = jnp.log(jnp.sum(jnp.exp(below), axis=-1, keepdims=True))
    # A masked sum in place of an index, which is slow on a GPU where it depends on the pixel.
    chosen = jnp.sum(jnp.where(_is_label(logits, labels), below, 0), axis=-1)
    return total[..., 0] - chosen, (logits, labels, top, total)


def _of_pixels_backward(residuals, gradient):
    logits, labels, top, total = residuals
    softmax = jnp.exp(logits - top - total)
    return (softmax - _is_label(logits, labels)) * gradient[..., None], None


def _is_label(logits, labels):
    return labels[..., None] == jnp.arange(logits.shape[-1])


_of_pixels.defvjp(_of_pixels_forward, _of_pixels_backward)


def pixel_weights(labels: jax.Array, ignore: int, class_weights: Weights, dtype=jnp.float32) -> jax.Array:
    """Returns the weight of each pixel's class, or 1 without class weights, and 0 where the pixel is ignored."""
    valid = labels != ignore
    if class_weights is None:
        return valid.astype(dtype)
    return jnp.where(valid, jnp.asarray(class_weights, dtype)[jnp.where(valid, labels, 0)], 0)


def balanced(logits: Logits, labels: jax.Array) -> jax.Array:
    """Returns the cross-entropy of labels, -1 to ignore, in which each class weighs as much as the share of others."""
    counts = jnp.stack([jnp.sum(labels == k, dtype=jnp.float32) for k in range(logits.shape[-1])])
    return cross_entropy(logits, labels, ignore=-1, class_weights=1 - _ratio(counts, jnp.sum(counts)))


def _ratio(total: jax.Array, norm: jax.Array) -> jax.Array:
    """Returns total / norm, or 0 where nothing was counted."""
    return total / jnp.where(norm > 0, norm, 1)


def resize_labels(labels: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Resizes (N, H, W) to (N, h, w) by the float32 nearest rule of torch, as the original brings labels to logits."""
    for axis, (n_in, n_out) in enumerate(zip(labels.shape[1:], size, strict=True), start=1):
        if n_in != n_out:
            (index,), _ = nearest_taps(np.arange(n_out), n_in, n_out)
            labels = jnp.take(labels, index, axis=axis)
    return labels
