"""Pictures without masks, as a source of samples whose labels are all void."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from openseg_jax.data.classes import IGNORE, ClassTable
from openseg_jax.data.images import IMAGE_SUFFIXES, read_image, read_size
from openseg_jax.errors import InputError


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
