"""Pictures without masks, as a source of samples whose labels are all void."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openseg_jax.data.images import IMAGE_SUFFIXES, read_image, read_size
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import IGNORE, ClassTable


class PictureSource:
    """source[i] is {"image", "label", "name"}, the label all void. Names are those of the files, without suffix."""

    def __init__(self, paths: list[Path], classes: ClassTable | None = None):
        self.paths, self.classes, self.names = paths, classes, [path.stem for path in paths]

    @classmethod
    def of_folder(cls, folder: Path, classes: ClassTable | None = None) -> PictureSource:
        """All pictures of a folder, by name."""
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES) if folder.is_dir() else []
        if not paths:
            raise InputError(f"{folder} contains no {', '.join(IMAGE_SUFFIXES)} files")
        return cls(paths, classes)

    def __len__(self) -> int:
        return len(self.paths)

    def size(self, index: int) -> tuple[int, int]:
        return read_size(self.paths[index])

    def __getitem__(self, index: int) -> dict:
        image = read_image(self.paths[index])
        return {"image": image, "label": np.full(image.shape[:2], IGNORE, np.uint8), "name": self.names[index]}


class ArraySource:
    """Pictures in memory, uint8 (H, W, 3) RGB; source[i] is as that of a PictureSource, the name its number."""

    def __init__(self, images: Sequence[np.ndarray], classes: ClassTable | None = None):
        for index, image in enumerate(images):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise InputError(f"picture {index} is {image.dtype} {image.shape}, wanted uint8 (H, W, 3) RGB")
        self.images, self.classes, self.names = images, classes, list(range(len(images)))

    def __len__(self) -> int:
        return len(self.images)

    def size(self, index: int) -> tuple[int, int]:
        return self.images[index].shape[:2]

    def __getitem__(self, index: int) -> dict:
        image = self.images[index]
        return {"image": image, "label": np.full(image.shape[:2], IGNORE, np.uint8), "name": str(index)}
