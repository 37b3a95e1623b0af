"""Segments pictures of your own: files, folders, patterns, lists of files, videos.

    python -m openseg_jax.predict --checkpoint=DIR street.jpg holiday/ "trip/*.png" --out=DIR
    python -m openseg_jax.predict --checkpoint=DIR drive.mp4 --out=DIR

OUT receives label/NAME.png, a palette picture whose values are class ids, color/NAME.png and overlay/NAME.jpg; of a
video, NAME.mp4 with the overlays. A file ending in .txt is a list of files, one per line. In Python:

    labels = Predictor("DIR")(images)  # a list of uint8 (H, W, 3) RGB arrays of any sizes -> uint8 (H, W) class ids
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from ml_collections import ConfigDict
from rich.progress import track

from openseg_jax import sharding, visualize
from openseg_jax.checkpoints import load
from openseg_jax.data.images import IMAGE_SUFFIXES, read_image
from openseg_jax.data.pictures import ArraySource, PictureSource
from openseg_jax.errors import InputError
from openseg_jax.evaluation import report
from openseg_jax.evaluation.inference import DEFAULTS, Evaluator
from openseg_jax.labels.classes import ClassTable

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")


class Predictor:
    """Segments pictures in memory with the net of a checkpoint.

    checkpoint: a folder of a run or an import. batch_size: pictures at a time, 0 for one per device. options: fields of
    the `eval` part of a config, such as protocol="ms_flip" or min_side=520.
    Pictures of different sizes share at most `max_buckets` padded shapes, each compiled once, which changes no result.
    """

    def __init__(self, checkpoint: str | Path, batch_size: int = 0, **options):
        self.model, variables, metadata = load(checkpoint)
        if self.model.head is not None and self.model.head.needs_labels:
            raise InputError(f"{self.model.spec.name} is told the labels, so it cannot predict pictures without")
        unknown = set(options) - set(DEFAULTS)
        if unknown:
            raise InputError(f"unknown option {min(unknown)!r}; there are {', '.join(DEFAULTS)}")
        self.mesh, self.normalization = sharding.make_mesh(), metadata.normalization
        self.classes = metadata.classes or ClassTable.from_dict(
            {"classes": [{"name": f"class {i}"} for i in range(self.model.spec.num_classes or 1)]}, str(checkpoint)
        )
        self.config = ConfigDict(DEFAULTS | {"batch_size": batch_size or self.mesh.size} | options)
        self._variables = sharding.put_replicated(self.mesh, variables)

    def __call__(self, images: Sequence[np.ndarray], *, probabilities: bool = False) -> list[np.ndarray]:
        """uint8 (H, W) class ids of each picture, or float16 (H, W, K) probabilities."""
        found: dict[int, np.ndarray] = {}
        kind = "on_probabilities" if probabilities else "on_prediction"
        self.run(ArraySource(images, self.classes), **{kind: found.__setitem__})
        return [found[index] for index in range(len(images))]

    def run(self, source, **callbacks) -> None:
        """Over a source of samples; callbacks: see `Evaluator.run`."""
        evaluator = Evaluator(self.model, self.config, source, self.normalization, self.mesh)
        evaluator.run(self._variables, **callbacks)


def predict_pictures(checkpoint: str, given: list[str], out: Path, batch_size: int = 0, **options) -> None:
    """Writes label PNGs, colours and overlays of all pictures, and a film of overlays for each video."""
    paths = [path for text in given for path in _expanded(text)]
    pictures = [path for path in paths if path.suffix.lower() not in VIDEO_SUFFIXES]
    names = [path.stem for path in pictures]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"two of the pictures are called {twice}: their results would overwrite each other")
    predictor = Predictor(checkpoint, batch_size, **options)

    def write(index: int, ids: np.ndarray) -> None:
        report.write_prediction(out, names[index], ids, predictor.classes, read_image(pictures[index]))

    if pictures:
        predictor.run(
            PictureSource(pictures, predictor.classes),
            on_prediction=write,
            progress=lambda batches, count: track(batches, "segmenting", count),
        )
        print(f"label/, color/ and overlay/ of {len(pictures)} pictures are in {out}")
    for path in (path for path in paths if path not in pictures):
        frames = _film(predictor, path, out / f"{path.stem}.mp4")
        print(f"{out / path.stem}.mp4 has the overlays of {frames} frames")


def _expanded(text: str) -> Iterator[Path]:
    """The files that an argument names."""
    path = Path(text).expanduser()
    if path.is_dir():
        yield from PictureSource.of_folder(path).paths
    elif path.suffix == ".txt" and path.is_file():
        for line in path.read_text().splitlines():
            yield from _expanded(line.strip()) if line.strip() else ()
    elif any(letter in text for letter in "*?["):
        found = sorted(
            p for p in map(Path, glob.glob(str(path))) if p.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES
        )
        if not found:
            raise InputError(f"no picture or video fits {text}")
        yield from found
    else:
        yield path


def _film(predictor: Predictor, path: Path, out: Path) -> int:
    """Writes the overlays of a video's frames as a film; returns their number."""
    reader = cv2.VideoCapture(str(path))
    if not reader.isOpened():
        raise InputError(f"cannot read the video {path}")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}")
    writer, count, frames = None, 0, []
    while True:
        more, frame = reader.read()
        if more:
            frames.append(np.ascontiguousarray(frame[..., ::-1]))
        if frames and (not more or len(frames) == 8 * predictor.config.batch_size):
            for image, ids in zip(frames, predictor(frames), strict=True):
                if writer is None:
                    code, rate = cv2.VideoWriter_fourcc(*"mp4v"), reader.get(cv2.CAP_PROP_FPS) or 25
                    writer = cv2.VideoWriter(str(temporary) + ".mp4", code, rate, image.shape[1::-1])
                writer.write(visualize.overlay(image, ids, predictor.classes)[..., ::-1])
            count, frames = count + len(frames), []
        if not more:
            break
    if writer is None:
        raise InputError(f"the video {path} has no frames")
    writer.release()
    Path(str(temporary) + ".mp4").replace(out)
    return count


if __name__ == "__main__":
    import sys

    from openseg_jax.cli import main

    main(["predict", *sys.argv[1:]])
