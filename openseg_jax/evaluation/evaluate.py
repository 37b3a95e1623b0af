"""Evaluation: a checkpoint and a data set in, scores and label maps out."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from openseg_jax import data, models, sharding
from openseg_jax.checkpoints import Metadata, load
from openseg_jax.config import Config, DataSettings, EvalSettings, typed
from openseg_jax.console import Console, track
from openseg_jax.data.images import image_files
from openseg_jax.data.offset_files import OFFSET_SUFFIXES, write_offsets
from openseg_jax.data.sources import ImageSource
from openseg_jax.errors import InputError, RunError
from openseg_jax.evaluation.others import legacy_scores, official_scores
from openseg_jax.evaluation.progress import Progress
from openseg_jax.evaluation.report import Report
from openseg_jax.files import replacing
from openseg_jax.inference import ArgMax, ConfusionCounts, Probabilities, Reader, Refined, Runner, writers
from openseg_jax.inference.offsets import WithOffsets, offset_runner
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
    labelled, refined = not isinstance(source, ImageSource), bool(config.eval.segfix)
    if not labelled and folder is None:
        raise InputError(f"{split} has no masks, so there is nothing to score: give --out for its predictions")
    if cityscapes and not (labelled and folder and hasattr(source, "masks")):
        raise InputError("--cityscapes_scripts reads label PNGs and masks: give --out, and a folder with masks")
    if refined:
        source = _with_offsets(config.eval, source, split, folder, console)
    boundaries = boundaries or refined  # what refinement is for
    readers, scores = _readers_and_scores(config.eval, len(classes), len(source), boundaries)
    if probabilities and folder:
        readers["probabilities"] = Probabilities()
    runner = Runner(model, source, config.eval, readers, metadata.normalization, mesh)

    facts = {"checkpoint": str(checkpoint), "step": metadata.step, "split": split}
    names, settings = list(map(str, source.names)), dataclasses.asdict(config.eval)
    key = facts | {"images": names, "eval": settings, "boundaries": boundaries}
    progress = Progress(folder and folder / "progress.npz", key, scores if labelled else {}, resume=resume)
    if progress.batches:
        console.print(f"going on after {progress.batches} of {runner.batch_count} batches")
    for item in progress.run(runner, variables, f"evaluating {split}", console):
        if folder:
            truth = item.sample["label"] if labelled else None
            writers.write_prediction(folder, item.name, item["labels"], classes, item.sample["image"], truth)
        if folder and probabilities:
            with replacing(folder / "prob" / f"{item.name}.npy") as temporary:
                np.save(temporary, item["probabilities"])
    scores, failures = progress.merge()  # after which the files of all processes are there, too

    failures = getattr(source, "incomplete", {}) | failures
    for name, message in failures.items():
        console.print(f"left out {name}: {message}", style="red")
    result = {}
    if labelled:
        result = _result(scores, split)
        if legacy:
            f = scores["boundaries"].f if boundaries else None
            result["legacy"] = legacy_scores(scores["confusion"].matrix, f, runner.pixels, classes)
        if cityscapes:
            masks = {name: mask for name, mask in zip(names, source.masks, strict=True) if name not in failures}
            files = [folder / "label" / f"{name}.png" for name in masks]
            result["cityscapes_scripts"] = official_scores(files, [*masks.values()])
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
    if (count := model.spec.num_classes) != len(classes):
        what = f"{checkpoint} holds a net of {count} classes, but {classes.title} has {len(classes)}"
        raise InputError(f"{what}: take the checkpoint of another data set, or another config")
    return classes


def _source(settings: DataSettings, split: str, classes: ClassTable):
    """Returns the samples of a split, or its images where it has no masks."""
    if settings.source == "folder" and settings.root and not data.is_record_root(settings.root):
        folder = Path(settings.root).expanduser() / split
        if folder.is_dir() and not (folder / settings.label_folder).is_dir():
            return ImageSource(image_files(folder / settings.image_folder), classes)
    return data.make_source(settings, split, complete=False)


def _with_offsets(settings: EvalSettings, source, split: str, folder: Path | None, console: Console) -> WithOffsets:
    """Returns the source with the offsets of files, or with those of a SegFix net, which it writes into OUT/offsets."""
    given = Path(settings.segfix).expanduser()
    if not given.is_dir():
        raise InputError(f"eval.segfix={given} is no folder: give one of offsets, or a checkpoint of a SegFix net")
    if any(file.suffix in OFFSET_SUFFIXES for file in given.iterdir()):
        return WithOffsets(source, given)
    if folder is None:
        raise InputError("eval.segfix names a net, whose offsets are written: give --out")
    runner, variables = offset_runner(given, source, batch_size=settings.batch_size)
    for item in track(runner.run(variables), f"predicting the offsets of {split}", len(source), console=console):
        if not item.error:  # the evaluation itself names what could not be read
            write_offsets(folder / "offsets" / f"{item.name}.npz", item["offsets"])
    sharding.exchange(b"")  # a process may need the files of others
    return WithOffsets(source, folder / "offsets")


def _readers_and_scores(
    settings: EvalSettings, num_classes: int, images: int, boundaries: bool
) -> tuple[dict[str, Reader], dict[str, Any]]:
    """Returns what is computed, and what adds it up; with refinement, both also "_before" it."""
    readers, scores, whens = {"labels": ArgMax()}, {}, ("",)
    if settings.segfix:
        readers = {"labels_before": ArgMax(), "labels": Refined("labels_before", settings.segfix_scale)}
        whens = ("", "_before")
    for when in whens:
        readers[f"counts{when}"] = ConfusionCounts(num_classes, f"labels{when}")
        scores[f"confusion{when}"] = Confusion(num_classes, images, f"counts{when}")
        if boundaries:
            scores[f"boundaries{when}"] = Boundaries(num_classes, images, f"labels{when}")
    return readers, scores


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


def _evaluate_boundaries(
    config: Config, model: models.Segmentor, variables, metadata: Metadata, split: str, mesh, console: Console
) -> dict[str, float]:
    """Prints and returns the scores of a SegFix net."""
    if "offset" not in config.data.maps:
        choice = "--config=segfix:DATASET, or --config.data.maps='(\"offset\",)'"
        raise InputError(f"{model.spec.name} predicts boundaries: give {choice}")
    source, task = data.make_source(config.data, split), task_of(model, None, config.loss.segfix)
    runner, score = Runner(model, source, config.eval, task.readers, metadata.normalization, mesh), task.score()
    for item in track(runner.run(variables), f"evaluating {split}", len(source), console=console):
        score.update(item)
    result = score.merge(sharding.exchange).result()
    for name, value in result.items():
        console.print(f"{name.replace('_', ' ')} {percent(value)} %")
    return result
