"""Offsets of many images, one after the other: from files, or from a SegFix net."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from openseg_jax.data.offset_files import find_offsets, read_offsets
from openseg_jax.data.sources import ImageSource
from openseg_jax.data.workers import in_threads
from openseg_jax.inference.offsets import offset_runner


class ImageOffsets(NamedTuple):
    """The offsets of an image: its name, int8 (H, W, 2), (down, right) in pixels, and the file that they come from."""

    name: str
    offsets: np.ndarray
    file: Path


def stored_offsets(folder: str | os.PathLike, names: Sequence[str]) -> Iterator[ImageOffsets]:
    """Reads FOLDER/NAME.npz or .mat of each name, in this order; threads read ahead.

    Raises:
        InputError: Before the first one if any is missing; later if one is damaged.
    """
    files = [find_offsets(folder, name) for name in names]
    yield from in_threads(lambda file: ImageOffsets(file.stem, read_offsets(file), file), files)


def predicted_offsets(checkpoint: str | os.PathLike, images: Sequence[Path], **options) -> Iterator[ImageOffsets]:
    """Predicts the offsets of image files, each with a name of its own, in the order that suits the net.

    Takes the checkpoint and the options of `offset_runner`.

    Raises:
        InputError: At once if the checkpoint or the options are wrong; later, if an image is damaged.
    """
    runner, variables = offset_runner(checkpoint, ImageSource(list(images)), **options)
    return (ImageOffsets(item.name, item["offsets"], images[item.index]) for item in runner.run(variables))
