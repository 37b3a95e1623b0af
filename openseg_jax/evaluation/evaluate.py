"""The evaluation command: a checkpoint and a data set in, scores and pictures out."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.progress import track

from openseg_jax import data, sharding
from openseg_jax.checkpoints import load
from openseg_jax.data.pictures import PictureSource
from openseg_jax.errors import InputError, RunError
from openseg_jax.evaluation import report, statistics
from openseg_jax.evaluation.boundary_scores import boundary_regions, f_scores
from openseg_jax.evaluation.inference import Evaluator
from openseg_jax.evaluation.metrics import scores
from openseg_jax.evaluation.progress import Progress, Writer


def evaluate(
    config: ConfigDict,
    checkpoint: str,
    split: str | None = None,
    out: str | None = None,
    *,
    resume: bool = True,
    probabilities: bool = False,
    boundaries: bool = False,
) -> dict:
    """Prints a table of scores and returns them; writes report.json, report.html, images.csv, label/, color/, overlay/
    into `out`.

    A split without masks gets predictions and no scores. resume: go on after an interrupted evaluation into the same
    `out`. probabilities: also prob/NAME.npy, float16 (H, W, K). boundaries: also boundary F-score and boundary IoU.
    Raises RunError, after all is written, if images could not be read.
    """
    model, variables, metadata = load(checkpoint)
    classes = data.class_table(config.data)
    if model.spec.num_classes != len(classes):
        raise InputError(
            f"{checkpoint} holds a net of {model.spec.num_classes} classes, but {classes.title} has {len(classes)}: "
            "take the checkpoint of another data set, or another config"
        )
    split = split or config.data.val_split
    source = _source(config.data, split, classes)
    labelled = not isinstance(source, PictureSource)
    if not labelled and out is None:
        raise InputError(f"{split} has no masks, so there is nothing to score: give --out for its predictions")
    mesh = sharding.make_mesh(config.mesh.spatial)
    evaluator = Evaluator(model, config.eval, source, metadata.normalization, mesh)
    console = Console(quiet=jax.process_index() != 0)
    folder = Path(out) if out else None
    path = folder / "progress.npz" if folder else None
    key = {"checkpoint": str(checkpoint), "step": metadata.step, "split": split, "images": list(map(str, source.names)),
           "eval": config.eval.to_json_best_effort(), "boundaries": boundaries}  # fmt: skip
    found = Progress.read(path, key) if path and resume else None
    progress = found or Progress.begin(key, len(source), len(classes))
    if found:
        console.print(f"going on after {found.batches} of {evaluator.batch_count} batches")

    def on_prediction(index: int, ids: np.ndarray) -> None:
        sample = source[index]
        if boundaries:
            pair = ids, sample["label"], len(classes)
            progress.boundaries[index] = np.column_stack([f_scores(*pair), boundary_regions(*pair)])
        if folder:
            truth = sample["label"] if labelled else None
            report.write_prediction(folder, sample["name"], ids, classes, sample["image"], truth)

    def on_failure(index: int, error: InputError) -> None:
        progress.failures[str(source.names[index])] = str(error)

    evaluator.run(
        sharding.put_replicated(mesh, variables),
        on_prediction=on_prediction if folder or boundaries else None,
        on_counts=progress.images.__setitem__,
        on_probabilities=_probability_writer(folder, source) if probabilities and folder else None,
        on_failure=on_failure,
        on_batch=Writer(progress, path if jax.process_index() == 0 else None),
        progress=lambda batches, count: track(batches, f"evaluating {split}", count, console=console),
        start=progress.batches,
    )
    confusion = np.asarray(progress.total) + np.zeros((len(classes),) * 2, np.int64)
    for name, message in progress.failures.items():
        console.print(f"[red]left out[/red] {name}: {message}")
    if labelled and not confusion.sum():
        raise InputError(f"no pixel of {split} is labelled, so there is nothing to score")
    result = scores(confusion) if labelled else {}
    if labelled:
        result["interval"] = statistics.interval(progress.images)
        result |= _boundary_scores(progress.boundaries) if boundaries else {}
        report.print_scores(result, confusion, classes, console)
    if folder and jax.process_index() == 0:
        context = {
            "checkpoint": str(checkpoint),
            "step": metadata.step,
            "model": metadata.model,
            "split": split,
            "images": len(source),
            "protocol": config.eval.to_dict(),
            "normalization": metadata.normalization.to_dict(),
            "failures": progress.failures,
        }
        if labelled:
            names = list(map(str, source.names))
            report.write_json(folder / "report.json", result, confusion, classes, context)
            report.write_images(folder, names, progress.images)
            report.write_page(folder, result, confusion, classes, names, progress.images, context)
        path.unlink(missing_ok=True)
        console.print(f"report.json, report.html, images.csv, label/, color/ and overlay/ are in {folder}")
    if progress.failures:
        raise RunError(
            f"{len(progress.failures)} of {len(source)} images of {split} could not be read; the scores are of the rest"
        )
    return result


def _source(config, split: str, classes):
    """The samples of a split, or, where it has no masks, its pictures."""
    if config.source == "folder" and config.root and not data.is_record_root(config.root):
        folder = Path(config.root).expanduser() / split
        if folder.is_dir() and not (folder / config.label_folder).is_dir():
            return PictureSource.of_folder(folder / config.image_folder, classes)
    return data.make_source(config, split)


def _probability_writer(folder: Path, source):
    def write(index: int, probabilities: np.ndarray) -> None:
        path = folder / "prob" / f"{source.names[index]}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, probabilities)

    return write


def _boundary_scores(boundaries: np.ndarray) -> dict[str, float]:
    """Of all images that were scored: the mean F-score, and the mean over classes of boundary IoU."""
    scored = boundaries[~np.isnan(boundaries).any((1, 2))]
    inside, union = scored[..., 1:].sum(0).T
    iou = np.where(union > 0, inside / np.maximum(union, 1), np.nan)
    return {"boundary_f_score": float(scored[..., 0].mean()), "boundary_iou": float(np.nanmean(iou))}
