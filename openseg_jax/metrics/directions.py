"""How well a SegFix net predicts boundaries and the directions that lead off them."""

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax.metrics.accumulator import Accumulator

_NAMES = ("mask_accuracy", "direction_accuracy", "direction_accuracy_predicted", "mask_precision", "mask_recall")


def direction_counts(
    found: jax.Array, direction: jax.Array, truth: jax.Array, sector: jax.Array, valid: jax.Array
) -> jax.Array:
    """Counts the pixels that are right, and those that count, for each score.

    Args:
        found: bool (N, H, W), the predicted boundary.
        direction: int (N, H, W), the predicted classes of directions.
        truth: bool (N, H, W), the true boundary.
        sector: int (N, H, W), the true classes of directions.
        valid: bool (N, H, W), the pixels that are not ignored.

    Returns:
        int32 (N, 5, 2), (right, all) in the order of the first five scores of `Directions.result`.
    """
    counted = [(valid, found == truth), (valid & truth, found & (direction == sector)),
               (valid & found, direction == sector), (valid & found, truth), (valid & truth, found)]  # fmt: skip
    total = lambda pixels: jnp.sum(pixels, axis=(1, 2), dtype=jnp.int32)  # noqa: E731
    return jnp.stack([jnp.stack([total(of & right), total(of)], axis=-1) for of, right in counted], axis=1)


class Directions(Accumulator):
    """Adds up direction counts. name: Of the reader `DirectionCounts`."""

    main_score = "direction_accuracy"

    def __init__(self, name: str = "counts"):
        self._name = name
        self.sums = {"counts": np.zeros((5, 2), np.int64)}

    def update(self, item) -> None:
        self.sums["counts"] += item[self._name]

    def result(self) -> dict[str, float]:
        """Returns fractions.

        mask_accuracy is that of interior or boundary; direction_accuracy that on true boundaries, where a pixel that
        is not predicted as boundary is wrong; direction_accuracy_predicted that on predicted boundaries. mask_precision
        and mask_recall are those of the boundary pixels, predicted and true, mask_f_score is their harmonic mean.
        """
        counts = self.sums["counts"]
        found = {name: float(right / max(total, 1)) for name, (right, total) in zip(_NAMES, counts, strict=True)}
        (right, predicted), (_, true) = counts[3:]
        return found | {"mask_f_score": float(2 * right / max(predicted + true, 1))}
