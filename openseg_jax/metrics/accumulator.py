"""What all scores over the images of a run have in common."""

import abc
import copy
import io
from collections.abc import Callable

import numpy as np


class Accumulator(abc.ABC):
    """Adds up what single images give. Its state is `sums`, arrays that are added over images and over processes.

    Example:
        for item in runner.run(variables):
            score.update(item)
        print(score.merge(sharding.exchange).result())
    """

    main_score: str
    sums: dict[str, np.ndarray]

    @abc.abstractmethod
    def update(self, item) -> None:
        """Adds one image. item: An `inference.Item`, or a mapping of the results that this score takes."""

    @abc.abstractmethod
    def result(self) -> dict:
        """Returns the scores by name; an array has one value per class."""

    def summary(self) -> dict[str, float]:
        """Returns the scores that are one number."""
        return {name: value for name, value in self.result().items() if np.ndim(value) == 0}

    def state(self) -> dict[str, np.ndarray]:
        """Returns copies of the sums, from which `restore` goes on."""
        return {name: array.copy() for name, array in self.sums.items()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.sums = {name: np.array(state[name]) for name in self.sums}

    def merge(self, exchange: Callable[[bytes], list[bytes]]) -> "Accumulator":
        """Returns the score of the images of all processes; this one goes on with its own.

        Args:
            exchange: Gives every process what each of them gives, see `sharding.exchange`; all must call it.
        """
        own, merged = io.BytesIO(), copy.copy(self)
        np.savez_compressed(own, **self.sums)
        parts = [dict(np.load(io.BytesIO(data))) for data in exchange(own.getvalue())]
        merged.sums = {name: sum(part[name] for part in parts) for name in self.sums}
        return merged
