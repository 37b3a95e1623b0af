"""Segments images of your own: files, folders, patterns, lists of files, videos.

    openseg predict --checkpoint=DIR street.jpg holiday/ "trip/*.png" --out=DIR

In Python:

    labels = Predictor("DIR")(images)  # a list of uint8 (H, W, 3) RGB arrays of any sizes -> uint8 (H, W) class ids
"""

import contextlib
import dataclasses
import glob
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from openseg_jax import sharding, visualize
from openseg_jax.checkpoints import load
from openseg_jax.config import EvalSettings, typed
from openseg_jax.data.images import IMAGE_SUFFIXES, image_files
from openseg_jax.data.sources import ArraySource, ImageSource, unlabelled
from openseg_jax.errors import InputError
from openseg_jax.files import read_text, replacing
from openseg_jax.inference import ArgMax, Item, Probabilities, Reader, Runner
from openseg_jax.inference.writers import write_prediction
from openseg_jax.labels.classes import ClassTable

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")


class Predictor:
    """Segments images with the net of a checkpoint.

    Images of different sizes share at most `max_buckets` padded shapes, each compiled once, which changes no result.

    Attributes:
        classes: What the class ids mean.
        settings: How images are tested.
    """

    def __init__(self, checkpoint: str | Path, batch_size: int = 0, **options):
        """Loads a checkpoint.

        Args:
            checkpoint: A folder of a run or an import.
            batch_size: Images at a time; 0 is one per device.
            options: Fields of the `eval` part of a config, such as protocol="ms_flip" or min_side=520.
        """
        self._model, variables, metadata = load(checkpoint)
        if self._model.head is not None and self._model.head.needs_labels:
            raise InputError(f"{self._model.spec.name} is given the labels, so it cannot predict images without")
        fields = [field.name for field in dataclasses.fields(EvalSettings)]
        if unknown := options.keys() - fields:
            raise InputError(f"unknown option {min(unknown)!r}; there are {', '.join(fields)}")
        self._mesh, self._normalization = sharding.make_mesh(), metadata.normalization
        names = [{"name": f"class {i}"} for i in range(self._model.spec.num_classes or 1)]
        self.classes = metadata.classes or ClassTable.from_dict({"classes": names}, str(checkpoint))
        self.settings = typed({"eval": {"batch_size": batch_size or self._mesh.size} | options}).eval
        self._variables = sharding.put_replicated(self._mesh, variables)
        self._runners: dict[str, Runner] = {}

    def __call__(self, images: Sequence[np.ndarray], *, probabilities: bool = False) -> list[np.ndarray]:
        """Returns the class ids, uint8 (H, W), or the probabilities, float16 (H, W, K), of each image.

        images: uint8 (H, W, 3), RGB, of any sizes.
        """
        name = "probabilities" if probabilities else "labels"
        found = {item.index: item[name] for item in self.run(ArraySource(images, self.classes), name)}
        return [found[index] for index in range(len(images))]

    def run(self, source, result: str = "labels") -> Iterator[Item]:
        """Yields the items of a source of samples, with "labels" or with "probabilities" as `result` says."""
        if result not in self._runners:
            readers: Mapping[str, Reader] = {"labels": ArgMax(), "probabilities": Probabilities()}
            arguments = self.settings, {result: readers[result]}, self._normalization, self._mesh
            self._runners[result] = Runner(self._model, ArraySource([], self.classes), *arguments)
        return self._runners[result].over(source).run(self._variables)


def predict_images(checkpoint: str | Path, inputs: Sequence[str], out: Path, batch_size: int = 0, **options) -> None:
    """Writes label PNGs, colours and overlays of all images, and a film of overlays for each video.

    Args:
        checkpoint: A folder of a run or an import.
        inputs: Files, folders, patterns, lists of files, videos.
        out: The folder for label/, color/ and overlay/, and for films.
        batch_size: Images at a time; 0 is one per device.
        options: Fields of the `eval` part of a config.

    Raises:
        InputError: If something cannot be read, or two images have one name.
    """
    paths = [path for text in inputs for path in _expanded(text)]
    images = [path for path in paths if path.suffix.lower() not in VIDEO_SUFFIXES]
    names = [path.stem for path in images]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"two of the images are called {twice}: their results would overwrite each other")
    predictor = Predictor(checkpoint, batch_size, **options)
    if images:
        items = predictor.run(ImageSource(images, predictor.classes))
        for item in track(items, "segmenting", len(images)):
            write_prediction(out, item.name, item["labels"], predictor.classes, item.sample["image"])
        print(f"label/, color/ and overlay/ of {len(images)} images are in {out}")
    for path in (path for path in paths if path not in images):
        frames = _write_film(predictor, path, out / f"{path.stem}.mp4")
        print(f"{out / path.stem}.mp4 has the overlays of {frames} frames")


def _expanded(text: str) -> Iterator[Path]:
    """Yields the files that an argument names."""
    path = Path(text).expanduser()
    if path.is_dir():
        yield from image_files(path)
    elif path.suffix == ".txt" and path.is_file():
        for line in read_text(path).splitlines():
            yield from _expanded(line.strip()) if line.strip() else ()
    elif any(letter in text for letter in "*?["):
        found = sorted(
            p for p in map(Path, glob.glob(str(path))) if p.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES
        )
        if not found:
            raise InputError(f"no image or video fits {text}")
        yield from found
    else:
        yield path


class _Frames:
    """The frames of a video as a source, to be run once. Those that were read wait in `waiting` to be taken out."""

    def __init__(self, path: Path, classes: ClassTable):
        self.classes, self.waiting, self._read, self._lock = classes, {}, 0, threading.Lock()
        counted, self._video = cv2.VideoCapture(str(path)), cv2.VideoCapture(str(path))
        if not self._video.isOpened():
            raise InputError(f"cannot read the video {path}")
        found, first = counted.read()
        if not found:
            raise InputError(f"the video {path} has no frames")
        count = 1
        while counted.grab():  # what the file says of their number is not always so
            count += 1
        self.names, self.rate = range(count), self._video.get(cv2.CAP_PROP_FPS) or 25
        self._size = first.shape[:2]

    def __len__(self) -> int:
        return len(self.names)

    def size(self, index: int) -> tuple[int, int]:
        return self._size

    def __getitem__(self, index: int) -> dict:
        with self._lock:  # threads load batches ahead, each the frames of its own
            for number in range(self._read, index + 1):
                self.waiting[number] = np.ascontiguousarray(self._video.read()[1][..., ::-1])
            self._read = max(self._read, index + 1)
            return unlabelled(self.waiting[index], str(index))


def _write_film(predictor: Predictor, path: Path, out: Path) -> int:
    """Writes the overlays of a video's frames as a film and returns their number."""
    frames = _Frames(path, predictor.classes)
    with replacing(out) as temporary, contextlib.ExitStack() as stack:
        size, code = frames.size(0)[::-1], cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(temporary), code, frames.rate, size)
        stack.callback(writer.release)
        for item in predictor.run(frames):
            overlay = visualize.overlay(frames.waiting.pop(item.index), item["labels"], predictor.classes)
            writer.write(overlay[..., ::-1])
    return len(frames)


if __name__ == "__main__":
    import sys

    from openseg_jax.cli import main

    main(["predict", *sys.argv[1:]])
