"""Sources of samples besides data sets: images without masks, whose labels are all void, and several sources as one."""

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openseg_jax.data.images import read_image, read_size
from openseg_jax.errors import InputError
from openseg_jax.files import stamp
from openseg_jax.labels.classes import IGNORE, ClassTable


def unlabelled(image: np.ndarray, name: str) -> dict:
    """Returns a sample {"image", "label", "name"} of an image (H, W, 3), whose label is void everywhere."""
    return {"image": image, "label": np.full(image.shape[:2], IGNORE, np.uint8), "name": name}


class ImageSource:
    """The images of files. Their names are those of the files, without suffix, if no others are given."""

    def __init__(self, paths: list[Path], classes: ClassTable | None = None, names: list[str] | None = None):
        self.paths, self.classes, self.names = paths, classes, names or [path.stem for path in paths]

    def __len__(self) -> int:
        return len(self.paths)

    def size(self, index: int) -> tuple[int, int]:
        return read_size(self.paths[index])

    def stamps(self) -> list[list[int]]:
        """Returns the size and the modification time of every file."""
        return [stamp(path) for path in self.paths]

    def __getitem__(self, index: int) -> dict:
        return unlabelled(read_image(self.paths[index]), self.names[index])


class ArraySource:
    """Images in memory, uint8 (H, W, 3) RGB. Their names are their numbers."""

    def __init__(self, images: Sequence[np.ndarray], classes: ClassTable | None = None):
        for index, image in enumerate(images):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise InputError(f"image {index} is {image.dtype} {image.shape}, wanted uint8 (H, W, 3) RGB")
        self.images, self.classes, self.names = images, classes, range(len(images))

    def __len__(self) -> int:
        return len(self.images)

    def size(self, index: int) -> tuple[int, int]:
        return self.images[index].shape[:2]

    def __getitem__(self, index: int) -> dict:
        return unlabelled(self.images[index], str(index))


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
