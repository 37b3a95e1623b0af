"""Several sources as one, joined one after the other or mixed by weight."""

import bisect
import itertools
from collections.abc import Sequence

from openseg_jax.errors import InputError


class Mixture:
    """A source with the samples of all parts, in their order.

    Args:
        parts: The sources. Each reads its masks through its own class table.
        weights: How often training takes a sample of each part. None joins the parts, so that all samples are taken
            equally often.
        same_classes: All tables must have the same classes.
    """

    def __init__(self, parts: Sequence, weights: Sequence[float] | None = None, same_classes: bool = True):
        first, *others = [part.classes for part in parts]
        for other in others:
            if same_classes and other.names != first.names:
                raise InputError(
                    f"{other.title} ({len(other)} classes) cannot be joined to {first.title} ({len(first)} classes): "
                    "all parts of a mixture need the same classes in the same order, through a table such as "
                    "mapillary_as_cityscapes"
                )
        self.classes, self.parts, self.weights = first, list(parts), weights
        self.starts = [0, *itertools.accumulate(len(part) for part in parts)]
        self.names = [name for part in parts for name in part.names]

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, index: int) -> dict:
        part, place = self._place(index)
        return part[place]

    def size(self, index: int) -> tuple[int, int]:
        part, place = self._place(index)
        return part.size(place)

    def _place(self, index: int):
        part = bisect.bisect_right(self.starts, index) - 1
        return self.parts[part], index - self.starts[part]
