"""Segments images of your own: files, folders, patterns, lists of files, videos.

    openseg predict --checkpoint=DIR street.jpg holiday/ "trip/*.png" --out=DIR

In Python:

    labels = Predictor("DIR")(images)  # a list of uint8 (H, W, 3) RGB arrays of any sizes -> uint8 (H, W) class ids
"""

import contextlib
import dataclasses
import glob
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from openseg_jax import sharding, visualize
from openseg_jax.checkpoints import load
from openseg_jax.config import EvalSettings, typed
from openseg_jax.console import track
from openseg_jax.data.images import IMAGE_SUFFIXES, image_files
from openseg_jax.data.sources import ArraySource, ImageSource
from openseg_jax.errors import InputError
from openseg_jax.files import read_text, replacing
from openseg_jax.inference import ArgMax, Item, Probabilities, Runner
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
        """Loads a checkpoint, the folder of a run or an import.

        batch_size: Images at a time; 0 is one per device. options: Fields of the `eval` part of a config, such as
        protocol="ms_flip" or min_side=520.
        """
        model, variables, metadata = load(checkpoint)
        if model.head is not None and model.head.needs_labels:
            raise InputError(f"{model.spec.name} is given the labels, so it cannot predict images without")
        fields = [field.name for field in dataclasses.fields(EvalSettings)]
        if unknown := options.keys() - fields:
            raise InputError(f"unknown option {min(unknown)!r}; there are {', '.join(fields)}")
        mesh, names = sharding.make_mesh(), [f"class {i}" for i in range(model.spec.num_classes or 1)]
        self.classes = metadata.classes or ClassTable.from_dict({"classes": names}, str(checkpoint))
        self.settings = typed({"eval": {"batch_size": batch_size or mesh.size} | options}).eval
        self._variables, source = sharding.put_replicated(mesh, variables), ArraySource([], self.classes)
        self._runners = {
            name: Runner(model, source, self.settings, {name: reader}, metadata.normalization, mesh)
            for name, reader in (("labels", ArgMax()), ("probabilities", Probabilities()))
        }

    def __call__(self, images: Sequence[np.ndarray], *, probabilities: bool = False) -> list[np.ndarray]:
        """Returns the class ids, uint8 (H, W), or the probabilities, float16 (H, W, K), of each image.

        images: uint8 (H, W, 3), RGB, of any sizes.
        """
        name = "probabilities" if probabilities else "labels"
        found = {item.index: item[name] for item in self.run(ArraySource(images, self.classes), name)}
        return [found[index] for index in range(len(images))]

    def run(self, source, result: str = "labels") -> Iterator[Item]:
        """Yields the items of a source of samples, with "labels" or with "probabilities" as `result` says."""
        return self._runners[result].over(source).run(self._variables)


def predict_images(checkpoint: str | Path, inputs: Sequence[str], out: Path, batch_size: int = 0, **options) -> None:
    """Writes OUT/label, OUT/color and OUT/overlay of all images, and a film of overlays for each video.

    inputs: Files, folders, patterns, lists of files, videos. The other arguments are those of `Predictor`.

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
        suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES
        found = [file for file in sorted(map(Path, glob.glob(str(path)))) if file.suffix.lower() in suffixes]
        if not found:
            raise InputError(f"no image or video fits {text}")
        yield from found
    else:
        yield path


def _write_film(predictor: Predictor, path: Path, out: Path) -> int:
    """Writes the overlays of a video's frames as a film and returns their number."""
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
            count += len(images)
            images = list(itertools.islice(frames, at_a_time))
    return count


def _frames(video: cv2.VideoCapture) -> Iterator[np.ndarray]:
    while (found := video.read())[0]:
        yield np.ascontiguousarray(found[1][..., ::-1])


if __name__ == "__main__":
    from openseg_jax.cli import main

    main(command="predict")
