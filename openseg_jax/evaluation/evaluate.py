"""Evaluation: a checkpoint and a data set in, scores and label maps out."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console
from rich.progress import track

from openseg_jax import data, models, sharding
from openseg_jax.checkpoints import Metadata, load
from openseg_jax.config import Config, DataSettings, typed
from openseg_jax.data.images import image_files
from openseg_jax.data.sources import ImageSource
from openseg_jax.errors import InputError, RunError
from openseg_jax.evaluation.cityscapes import official_scores
from openseg_jax.evaluation.legacy import legacy_scores
from openseg_jax.evaluation.offsets import with_offsets
from openseg_jax.evaluation.progress import Progress
from openseg_jax.evaluation.report import Report
from openseg_jax.inference import ArgMax, ConfusionCounts, Item, Probabilities, Reader, Refined, Runner, writers
from openseg_jax.inference.tasks import task_of
from openseg_jax.labels.classes import ClassTable
from openseg_jax.metrics.boundaries import Boundaries
from openseg_jax.metrics.confusion import Confusion
from openseg_jax.metrics.statistics import interval
from openseg_jax.page import percent


def evaluate(
    config: Config | ConfigDict,
    checkpoint: str,
    split: str | None = None,
    out: str | None = None,
    *,
    resume: bool = True,
    probabilities: bool = False,
    boundaries: bool = False,
    legacy: bool = False,
    cityscapes: bool = False,
) -> dict:
    """Prints a table of scores and returns them.

    A split without masks gets predictions and no scores. A SegFix net is scored for its boundaries and directions.

    Args:
        config: Which data, and by `eval` how images are tested.
        checkpoint: A folder of a run or an import.
        split: The config's validation split if not given.
        out: A folder for report.json, report.html, images.csv, images.npz, label/, color/ and overlay/.
        resume: Whether to go on after an interrupted evaluation into the same `out`.
        probabilities: Whether to write prob/NAME.npy, float16 (H, W, K).
        boundaries: Whether to score boundaries, too; with eval.segfix that is always done, and before refinement, too.
        legacy: Whether to return what the original's evaluators would have printed.
        cityscapes: Whether to return the scores of cityscapesScripts.

    Raises:
        InputError: If config, checkpoint and data do not fit each other.
        RunError: After all is written, if images could not be read.
    """
    config = typed(config)
    model, variables, metadata = load(checkpoint)
    split, mesh = split or config.data.val_split, sharding.make_mesh(config.mesh.spatial)
    variables = sharding.put_replicated(mesh, variables)
    console = Console(quiet=jax.process_index() != 0)
    if model.head is not None and not model.head.needs_classes:
        return _evaluate_boundaries(config, model, variables, metadata, split, mesh, console)
    classes = _classes(config.data, model, checkpoint)
    source, folder = _source(config.data, split, classes), Path(out) if out else None
    labelled = not isinstance(source, ImageSource)
    if not labelled and folder is None:
        raise InputError(f"{split} has no masks, so there is nothing to score: give --out for its predictions")
    if cityscapes and not (labelled and folder and hasattr(source, "masks")):
        raise InputError("--cityscapes_scripts reads label PNGs and masks: give --out, and a folder with masks")
    refined = bool(config.eval.segfix)
    if refined:
        source = with_offsets(config.eval, source, folder, _track(console, f"predicting the offsets of {split}"))
    boundaries = boundaries or refined  # what refinement is for
    readers = _readers(len(classes), config.eval.segfix_scale if refined else 0, probabilities and bool(folder))
    runner = Runner(model, source, config.eval, readers, metadata.normalization, mesh)

    facts = {"checkpoint": str(checkpoint), "step": metadata.step, "split": split}
    names, settings = list(map(str, source.names)), dataclasses.asdict(config.eval)
    key = facts | {"images": names, "eval": settings, "boundaries": boundaries}
    scores = _scores(len(classes), len(source), refined, boundaries) if labelled else {}
    progress = Progress(folder and folder / "progress.npz", key, scores, resume=resume)
    if progress.batches:
        console.print(f"going on after {progress.batches} of {runner.batch_count} batches")
    for item in progress.run(runner, variables, _track(console, f"evaluating {split}")):
        if item.error:
            continue
        for score in scores.values():
            score.update(item)
        if folder:
            _write(folder, item, classes, labelled, probabilities)
    scores, failures = progress.merge()  # after which the files of all processes are there, too

    failures = getattr(source, "incomplete", {}) | failures
    for name, message in failures.items():
        console.print(f"[red]left out[/red] {name}: {message}")
    result = _result(scores, split) if labelled else {}
    if labelled and legacy:
        f = scores["boundaries"].f if boundaries else None
        result["legacy"] = legacy_scores(scores["confusion"].matrix, f, runner.pixels, classes)
    if cityscapes:
        result["cityscapes_scripts"] = _official(source, folder, failures)
    if labelled:
        facts |= {"model": metadata.model, "images": len(source), "protocol": settings, "failures": failures,
                  "normalization": vars(metadata.normalization)}  # fmt: skip
        report = Report(result, scores["confusion"], classes, names, facts)
        report.print(console)
        if folder and jax.process_index() == 0:
            report.write(folder)
    if folder:
        progress.forget()
        console.print(f"report.json, report.html, images.csv, label/, color/ and overlay/ are in {folder}")
    if failures:
        rest = sum(name not in failures for name in names)
        raise RunError(f"{len(failures)} images of {split} could not be read; the scores are of the {rest} others")
    return result


def _classes(settings: DataSettings, model: models.Segmentor, checkpoint: str) -> ClassTable:
    classes = data.class_table(settings)
    if model.spec.num_classes != len(classes):
        raise InputError(
            f"{checkpoint} holds a net of {model.spec.num_classes} classes, but {classes.title} has {len(classes)}: "
            "take the checkpoint of another data set, or another config"
        )
    return classes


def _source(settings: DataSettings, split: str, classes: ClassTable):
    """Returns the samples of a split, or its images where it has no masks."""
    if settings.source == "folder" and settings.root and not data.is_record_root(settings.root):
        folder = Path(settings.root).expanduser() / split
        if folder.is_dir() and not (folder / settings.label_folder).is_dir():
            return ImageSource(image_files(folder / settings.image_folder), classes)
    return data.make_source(settings, split, complete=False)


def _readers(num_classes: int, refine_scale: int, probabilities: bool) -> dict[str, Reader]:
    """Returns what is computed. With a scale, labels and counts are those after refinement."""
    further = {"probabilities": Probabilities()} if probabilities else {}
    if not refine_scale:
        return {"labels": ArgMax(), "counts": ConfusionCounts(num_classes)} | further
    labels = {"labels_before": ArgMax(), "labels": Refined("labels_before", refine_scale)}
    counts = {f"counts{when}": ConfusionCounts(num_classes, f"labels{when}") for when in ("", "_before")}
    return labels | counts | further


def _scores(num_classes: int, images: int, refined: bool, boundaries: bool) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for when in ("", "_before")[: 1 + refined]:
        scores[f"confusion{when}"] = Confusion(num_classes, images, f"counts{when}")
        if boundaries:
            scores[f"boundaries{when}"] = Boundaries(num_classes, images, f"labels{when}")
    return scores


def _write(folder: Path, item: Item, classes: ClassTable, labelled: bool, probabilities: bool) -> None:
    truth = item.sample["label"] if labelled else None
    writers.write_prediction(folder, item.name, item["labels"], classes, item.sample["image"], truth)
    if probabilities:
        writers.write_array(folder / "prob" / f"{item.name}.npy", item["probabilities"])


def _result(scores: Mapping[str, Any], split: str) -> dict:
    """Returns the scores of the results, and those before refinement if there was one."""
    if not scores["confusion"].matrix.any():
        raise InputError(f"no pixel of {split} is labelled, so there is nothing to score")
    result = scores["confusion"].result() | {"interval": interval(scores["confusion"].images)}
    result |= scores["boundaries"].result() if "boundaries" in scores else {}
    if "confusion_before" in scores:
        before = [scores[f"{name}_before"].summary() for name in ("confusion", "boundaries")]
        result["before_refinement"] = before[0] | before[1]
    return result


def _official(source, folder: Path, failures: dict[str, str]) -> dict[str, float]:
    pairs = [(folder / "label" / f"{name}.png", mask) for name, mask in zip(source.names, source.masks, strict=True)
             if name not in failures]  # fmt: skip
    return official_scores(*zip(*pairs, strict=True))


def _evaluate_boundaries(
    config: Config, model: models.Segmentor, variables, metadata: Metadata, split: str, mesh, console: Console
) -> dict[str, float]:
    """Prints and returns the scores of a SegFix net."""
    if "offset" not in config.data.maps:
        raise InputError(
            f"{model.spec.name} predicts boundaries: give --config=segfix:DATASET, or "
            "--config.data.maps='(\"offset\",)'"
        )
    source, task = data.make_source(config.data, split), task_of(model, None, config.loss.segfix)
    runner, score = Runner(model, source, config.eval, task.readers(), metadata.normalization, mesh), task.score()
    for item in _track(console, f"evaluating {split}")(runner.run(variables), len(source)):
        score.update(item)
    result = score.merge(sharding.exchange).result()
    for name, value in result.items():
        console.print(f"{name.replace('_', ' ')} {percent(value)} %")
    return result


def _track(console: Console, what: str):
    return lambda steps, count: track(steps, what, count, console=console)
