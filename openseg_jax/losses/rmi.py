"""Region mutual information (Zhao et al., NeurIPS 2019, arXiv:1910.12037), as RMILoss computes it.

Each pixel is described by the R x R labels around it, and by the R x R probabilities. The loss is a lower bound of the
mutual information of the two, per image and class, beside a binary cross-entropy.
"""

import functools

import jax
import jax.numpy as jnp

from openseg_jax.losses.upsampled import Logits, Upsampled
from openseg_jax.models import resize
from openseg_jax.models.layers import Canvas, FeatureMap
from openseg_jax.models.pooling import avg_pool, max_pool

_RIDGE = 1e-3  # added to the diagonals of covariances
_GROUP = 2**25  # enlarged logits that are looked at together; 128 MiB in float32


def rmi(
    logits: Logits,
    labels: jax.Array,
    *,
    radius: int = 3,
    pool: str = "max",
    pool_size: int = 3,
    balance: float = 0.5,
    complementary: bool = True,
    weight: float = 1.0,
) -> jax.Array:
    """Returns weight * (balance * BCE + (1 - balance) * RMI), which may be negative.

    Ignored pixels have probability 1e-6 in the RMI (equation 15 of the paper) and are not in the BCE, which is summed
    over the classes and divided by the number of counted pixels plus one. The covariances are computed in float64,
    whatever JAX is set to: their entries grow with the number of pixels against a ridge of 1e-3, and in float32
    gradients at 520x520 would be off by up to three percent.

    Args:
        logits: (N, H, W, K) floats.
        labels: (N, H, W) integers on the same grid; those outside [0, K) are ignored.
        radius: R, the side of the regions in pixels.
        pool: How labels and probabilities are made smaller first, "max", "average" or "resize".
        pool_size: By which factor.
        balance: The share of the BCE.
        complementary: If False, the result is weight * (BCE + balance * RMI).
        weight: The weight of the whole.

    Raises:
        ValueError: If the grids differ, or the pool is unknown.
    """
    if logits.shape[:3] != labels.shape:
        raise ValueError(f"RMI wants labels on the grid of the logits, found {labels.shape} and {logits.shape[:3]}")
    if pool not in ("max", "average", "resize"):
        raise ValueError(f'the pool of RMI must be "max", "average" or "resize", found {pool!r}')
    n, height, width, classes = logits.shape
    labels = labels.astype(jnp.int32)
    counted = (labels >= 0) & (labels < classes)
    low = logits.low if isinstance(logits, Upsampled) else logits

    def of_group(first, part):
        """Returns (BCE, RMI) of some classes, beginning with `first`; logits beyond the last class add nothing."""
        x = Upsampled(part, (height, width)).full()
        own = first + jnp.arange(x.shape[-1])
        truth = jnp.where(counted[..., None] & (labels[..., None] == own), 1, 0).astype(x.dtype)
        entropy = jax.nn.relu(x) - x * truth + jnp.log1p(jnp.exp(-jnp.abs(x)))
        real = (own < classes).astype(x.dtype)
        bce = jnp.sum(jnp.where(counted[..., None], entropy, 0) * real) / (1 + jnp.sum(counted))
        probabilities = jnp.where(counted[..., None], jax.nn.sigmoid(x), 0) + 1e-6
        shrink = functools.partial(_shrink, pool=pool, size=pool_size)
        return bce, lower_bound(shrink(truth, nearest=True), shrink(probabilities), real, radius)

    groups = min(-(-n * height * width * classes // _GROUP), classes)
    if groups == 1:
        bce, information = of_group(0, low)
    else:
        members = -(-classes // groups)
        low = jnp.pad(low, (*[(0, 0)] * 3, (0, groups * members - classes)))
        parts = jnp.moveaxis(low.reshape(*low.shape[:3], groups, members), 3, 0)
        one = jax.checkpoint(lambda group: of_group(*group))
        bce, information = map(jnp.sum, jax.lax.map(one, (members * jnp.arange(groups), parts)))
    if complementary:
        return weight * (balance * bce + (1 - balance) * information)
    return weight * (bce + balance * information)


def _shrink(x: jax.Array, *, pool: str, size: int, nearest: bool = False) -> jax.Array:
    if size == 1:
        return x
    values = FeatureMap(x)
    if pool == "resize":
        smaller = Canvas(x.shape[1] // size, x.shape[2] // size)
        return (resize.nearest if nearest else resize.bilinear)(values, to=smaller).values
    return (max_pool if pool == "max" else avg_pool)(values, size, stride=size, padding=size // 2).values


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def lower_bound(labels: jax.Array, probabilities: jax.Array, real: jax.Array, radius: int) -> jax.Array:
    """Returns the sum over classes of half the log determinant of a covariance, over R^2, as the mean of the images.

    It is the covariance of labels (N, h, w, K), 1 for the class of each pixel, given their probabilities (N, h, w, K).
    real: (K,), 1 for the classes that count. radius: R.
    """
    with jax.enable_x64(True):
        return _lower_bound(labels, probabilities, real, radius).astype(probabilities.dtype)


def _forward(labels, probabilities, real, radius):
    # With its gradient, so that all float64 is inside.
    with jax.enable_x64(True):
        value, gradient = jax.value_and_grad(_lower_bound, argnums=1)(labels, probabilities, real, radius)
        return value.astype(probabilities.dtype), gradient.astype(probabilities.dtype)


def _backward(radius, gradient, outer):
    return None, outer * gradient, None


lower_bound.defvjp(_forward, _backward)


def _lower_bound(labels, probabilities, real, radius):
    y, p = (_regions(x.astype(jnp.float64), radius) for x in (labels, probabilities))
    ridge = _RIDGE * jnp.eye(radius**2, dtype=jnp.float64)
    of_labels, of_both, of_probabilities = (a @ jnp.swapaxes(b, -1, -2) for a, b in ((y, y), (y, p), (p, p)))
    explained = of_both @ jnp.linalg.solve(of_probabilities + ridge, jnp.swapaxes(of_both, -1, -2))
    root = jnp.linalg.cholesky(of_labels - explained + ridge, symmetrize_input=False)
    half_log_determinant = jnp.sum(jnp.log(jnp.diagonal(root, axis1=-2, axis2=-1) + 1e-8), axis=-1)
    return jnp.sum(half_log_determinant.mean(0) * real) / radius**2


def _regions(x: jax.Array, radius: int) -> jax.Array:
    """Turns (N, h, w, K) into (N, K, R^2, positions): the R x R shifted crops, each less its mean."""
    height, width = (side - radius + 1 for side in x.shape[1:3])
    crops = [x[:, i : i + height, j : j + width] for i in range(radius) for j in range(radius)]
    stacked = jnp.stack(crops).reshape(radius**2, x.shape[0], height * width, x.shape[3])
    stacked = jnp.transpose(stacked, (1, 3, 0, 2))
    return stacked - stacked.mean(-1, keepdims=True)
