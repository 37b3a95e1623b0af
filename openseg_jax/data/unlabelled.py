"""Images without masks, as sources of samples whose labels are all void."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openseg_jax.data.images import IMAGE_SUFFIXES, read_image, read_size
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import IGNORE, ClassTable


def unlabelled(image: np.ndarray, name: str) -> dict:
    """Returns a sample {"image", "label", "name"} of an image (H, W, 3), whose label is void everywhere."""
    return {"image": image, "label": np.full(image.shape[:2], IGNORE, np.uint8), "name": name}


class ImageSource:
    """The images of files. Their names are those of the files, without suffix."""

    def __init__(self, paths: list[Path], classes: ClassTable | None = None):
        self.paths, self.classes, self.names = paths, classes, [path.stem for path in paths]

    @classmethod
    def of_folder(cls, folder: Path, classes: ClassTable | None = None) -> "ImageSource":
        """Returns all images of a folder, by name."""
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES) if folder.is_dir() else []
        if not paths:
            raise InputError(f"{folder} contains no {', '.join(IMAGE_SUFFIXES)} files")
        return cls(paths, classes)

    def __len__(self) -> int:
        return len(self.paths)

    def size(self, index: int) -> tuple[int, int]:
        return read_size(self.paths[index])

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
