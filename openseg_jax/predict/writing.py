"""Segments files and writes the results; what was interrupted goes on."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openseg_jax import __version__
from openseg_jax.console import track
from openseg_jax.converters import fingerprint
from openseg_jax.data.sources import ImageSource
from openseg_jax.errors import InputError, RunError
from openseg_jax.files import replacing
from openseg_jax.inference.writers import prediction_files, write_prediction
from openseg_jax.predict.films import write_film
from openseg_jax.predict.inputs import Input, find_inputs
from openseg_jax.predict.predictor import Predictor
from openseg_jax.results import child, is_done, results


def predict_images(
    checkpoint: str | Path,
    inputs: Sequence[str],
    out: Path,
    batch_size: int = 0,
    *,
    probabilities: bool = False,
    frames: bool = False,
    **options,
) -> None:
    """Writes OUT/label, OUT/color and OUT/overlay of all images, and a film of overlays for each video.

    Results that are there already, by the same checkpoint and options and of files that have not changed since, are
    left as they are.

    Args:
        checkpoint: A folder of a run or an import.
        inputs: Files, folders, patterns, lists of files, videos.
        out: The folder for the results.
        batch_size: Images at a time; 0 is one per device.
        probabilities: Whether to write OUT/prob/NAME.npy, float16 (H, W, K), too.
        frames: Whether to write OUT/label/NAME/000000.png and so on of the frames of videos, too.
        **options: As those of `Predictor`.

    Raises:
        InputError: If nothing can be read, two files have one name, or a result would replace something else.
        RunError: After all others are written, if some files could not be read.
    """
    images, films = find_inputs(inputs)
    predictor = Predictor(checkpoint, batch_size, **options)
    names = [*["prob"] * (probabilities and bool(images)), *(f"{film.name}.mp4" for film in films)]
    names += ["label", "color", "overlay"] if images else ["label"] if frames else []
    for one in images:
        child(out, one.name, ".png")
    key = {
        "version": __version__,
        "checkpoint": fingerprint(checkpoint),
        "eval": dataclasses.asdict(predictor.settings) | {"batch_size": 0},
        "classes": predictor.classes.to_dict(),
        "frames": frames,
    }
    with results(out, "predict", names, [one.path for one in (*images, *films)], key) as since:
        failures = _predict_images(predictor, images, out, since, probabilities=probabilities)
        for film in films:
            target = child(out, film.name, ".mp4")
            if is_done([target], [film.path], since):
                print(f"{target} was there already")
                continue
            try:
                count = write_film(predictor, film.path, target, out / "label" / film.name if frames else None)
                print(f"{target} has the overlays of {count} frames")
            except InputError as error:
                failures[str(film.path)] = str(error)
    _raise(failures, len(images) + len(films))


def _predict_images(
    predictor: Predictor, images: list[Input], out: Path, since: int, *, probabilities: bool
) -> dict[str, str]:
    """Writes the results of images, and returns why files could not be read."""
    results, failures = ["labels", *["probabilities"] * probabilities], {}

    def files(name: str) -> list[Path]:
        return [*prediction_files(out, name), *[child(out / "prob", name, ".npy")] * probabilities]

    left = [one for one in images if not is_done(files(one.name), [one.path], since)]
    source = ImageSource([one.path for one in left], predictor.classes, [one.name for one in left])
    for item in track(predictor.run(source, *results), "segmenting", len(left)) if left else ():
        if item.error:
            failures[str(left[item.index].path)] = str(item.error)
            continue
        write_prediction(out, item.name, item["labels"], predictor.classes, item.sample["image"])
        if probabilities:
            with replacing(child(out / "prob", item.name, ".npy")) as temporary:
                np.save(temporary, item["probabilities"])
    if images:
        there = len(images) - len(left)
        print(f"label/, color/ and overlay/ of {len(images) - len(failures)} images are in {out}", end="")
        print(f"; {there} were there already" if there else "")
    return failures


def _raise(failures: dict[str, str], count: int) -> None:
    """Raises an error that names what could not be read, if there is anything."""
    if not failures:
        return
    reason = next(iter(failures.values()))
    if len(failures) == count == 1:
        raise InputError(reason)
    print("could not be read:", *failures, sep="\n  ")
    raise RunError(f"{len(failures)} of {count} files could not be read, the results of the others are there: {reason}")
