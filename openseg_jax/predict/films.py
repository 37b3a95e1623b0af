"""Films of overlays."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from openseg_jax import visualize
from openseg_jax.data.images import write_mask
from openseg_jax.data.sources import ArraySource
from openseg_jax.errors import InputError
from openseg_jax.files import replacing
from openseg_jax.inference.writers import mask_palette
from openseg_jax.predict.predictor import Predictor


def write_film(predictor: Predictor, path: Path, out: Path, labels: Path | None = None) -> int:
    """Writes the overlays of a video's frames as a film and returns their number.

    labels: A folder for the label maps of the frames, 000000.png and so on.
    """
    video, count = cv2.VideoCapture(str(path)), 0
    if not video.isOpened():
        raise InputError(f"cannot read the video {path}")
    # Of several batches, one is drawn while the net has the next.
    frames, at_a_time = _frames(video), 16 * predictor.settings.batch_size
    images = list(itertools.islice(frames, at_a_time))
    if not images:
        raise InputError(f"the video {path} has no frames")
    size, rate, code = images[0].shape[1::-1], video.get(cv2.CAP_PROP_FPS) or 25, cv2.VideoWriter.fourcc(*"mp4v")
    with replacing(out) as temporary, contextlib.ExitStack() as stack:
        writer = cv2.VideoWriter(str(temporary), code, rate, size)
        stack.callback(writer.release)
        while images:
            for item in predictor.run(ArraySource(images, predictor.classes)):
                writer.write(visualize.overlay(images[item.index], item["labels"], predictor.classes)[..., ::-1])
                if labels:
                    ids, name = predictor.classes.decode(item["labels"]), f"{count + item.index:06d}.png"
                    write_mask(labels / name, ids, mask_palette(predictor.classes))
            count += len(images)
            images = list(itertools.islice(frames, at_a_time))
    return count


def _frames(video: cv2.VideoCapture) -> Iterator[np.ndarray]:
    while (found := video.read())[0]:
        yield np.ascontiguousarray(found[1][..., ::-1])
