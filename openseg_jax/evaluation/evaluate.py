"""Evaluation: a checkpoint and a data set in, scores and label maps out."""

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from openseg_jax import __version__, data, models, sharding
from openseg_jax.agreement import fitting_classes, settings_of_run
from openseg_jax.checkpoints import Metadata
from openseg_jax.config import Config, DataSettings, EvalSettings, typed
from openseg_jax.console import Console, track
from openseg_jax.converters import fingerprint, load
from openseg_jax.data.images import image_files
from openseg_jax.data.offset_files import OFFSET_SUFFIXES, write_offsets
from openseg_jax.data.sources import ImageSource
from openseg_jax.errors import InputError, RunError
from openseg_jax.evaluation.others import legacy_scores, official_scores
from openseg_jax.evaluation.progress import Progress
from openseg_jax.evaluation.report import Report
from openseg_jax.files import replacing, stamp
from openseg_jax.inference import ArgMax, ConfusionCounts, Item, Probabilities, Reader, Refined, Runner, writers
from openseg_jax.inference.offsets import WithOffsets, offset_runner
from openseg_jax.inference.tasks import task_of
from openseg_jax.labels.classes import ClassTable
from openseg_jax.metrics.boundaries import Boundaries
from openseg_jax.metrics.confusion import Confusion
from openseg_jax.metrics.statistics import interval
from openseg_jax.page import percent
from openseg_jax.results import child, results

RESULTS = ("report.json", "report.html", "images.csv", "images.npz", "progress.npz", "label", "color", "overlay")


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
    given: Collection[str] = (),
) -> dict:
    """Prints a table of scores and returns them.

    A split without masks gets predictions and no scores. A SegFix net is scored for its boundaries and directions.

    Args:
        config: Which data, and by `eval` how images are tested. Where that is the default, images are tested as in the
            validations of the run that made the checkpoint.
        checkpoint: A folder of a run or an import.
        split: The config's validation split if not given.
        out: A folder for report.json, report.html, images.csv, images.npz, label/, color/ and overlay/.
        resume: Whether to go on after an interrupted evaluation into the same `out`.
        probabilities: Whether to write prob/NAME.npy, float16 (H, W, K).
        boundaries: Whether to score boundaries, too; with eval.segfix that is always done, and before refinement, too.
        legacy: Whether to return what the original's evaluators would have printed.
        cityscapes: Whether to return the scores of cityscapesScripts.
        given: Fields of `eval` that count even where they have the value of the default.

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
    settings = _settings(config, metadata, given, console)
    classes = fitting_classes(data.class_table(config.data), metadata, checkpoint)
    source, folder = _source(config.data, split, classes), Path(out).expanduser() if out else None
    labelled = not isinstance(source, ImageSource)
    if not labelled and folder is None:
        raise InputError(f"{split} has no masks, so there is nothing to score: give --out for its predictions")
    if cityscapes and not (labelled and folder and hasattr(source, "masks")):
        raise InputError("--cityscapes_scripts reads label PNGs and masks: give --out, and a folder with masks")
    options = _Options(
        labelled, boundaries or bool(settings.segfix), probabilities and bool(folder), legacy, cityscapes
    )
    key = {
        "version": __version__,
        "checkpoint": fingerprint(checkpoint),
        "classes": classes.to_dict(),
        "split": split,
        "images": list(map(str, source.names)),
        "data": source.stamps(),
        "eval": dataclasses.asdict(settings),
        "offsets": _origin_of_offsets(settings),
        "options": dataclasses.asdict(options),
    }
    facts = {"checkpoint": str(checkpoint), "step": metadata.step, "split": split, "model": metadata.model,
             "protocol": key["eval"], "normalization": vars(metadata.normalization)}  # fmt: skip
    with _kept(folder, source, options, settings):
        if settings.segfix:
            source = _with_offsets(settings, source, split, folder, console)
        readers, scores = _readers_and_scores(settings, classes, len(source), options)
        runner = Runner(model, source, settings, readers, metadata.normalization, mesh)
        progress = Progress(folder and folder / "progress.npz", key, scores, resume=resume)
        if progress.batches:
            console.print(f"going on after {progress.batches} of {runner.batch_count} batches")
        for item in progress.run(runner, variables, f"evaluating {split}", console):
            if folder:
                _write(folder, item, classes, options)
        return _finish(progress, runner, classes, folder, options, facts, console)


@dataclasses.dataclass(frozen=True)
class _Options:
    """What is computed; all but the first as `evaluate` explains."""

    labelled: bool  # whether there are masks, and so scores
    boundaries: bool
    probabilities: bool
    legacy: bool
    cityscapes: bool


def _finish(
    progress: Progress, runner: Runner, classes: ClassTable, folder: Path | None, options: _Options, facts: dict,
    console: Console,
) -> dict:  # fmt: skip
    """Reports what all processes have found together, and returns it."""
    source, split, result = runner.source, facts["split"], {}
    names = list(map(str, source.names))
    scores, failures = progress.merge()  # after which the files of all processes are there, too
    failures = getattr(source, "incomplete", {}) | failures
    for name, message in failures.items():
        console.print(f"left out {name}: {message}", style="red")
    if options.labelled:
        result = _result(scores, split)
        if options.legacy:
            f = scores["boundaries"].f if options.boundaries else None
            result["legacy"] = legacy_scores(scores["confusion"].matrix, f, runner.pixels, classes)
        if options.cityscapes:
            masks = {name: mask for name, mask in zip(names, source.masks, strict=True) if name not in failures}
            files = [child(folder / "label", name, ".png") for name in masks]
            result["cityscapes_scripts"] = official_scores(files, [*masks.values()])
        facts = facts | {"images": len(source), "failures": failures}
        report = Report(result, scores["confusion"], classes, names, facts)
        report.print(console)
        if folder and jax.process_index() == 0:
            report.write(folder)
    if folder:
        progress.forget()
        files = "report.json, report.html, images.csv, label/" if options.labelled else "label/"
        console.print(f"{files}, color/ and overlay/ are in {folder}")
    if failures:
        what, rest = "scores" if options.labelled else "results", sum(name not in failures for name in names)
        raise RunError(f"{len(failures)} images of {split} could not be read; the {what} are of the {rest} others")
    return result


def _settings(config: Config, metadata: Metadata, given: Collection[str], console: Console) -> EvalSettings:
    """Returns how images are tested, and prints in what that is not as the config says."""
    settings, taken = settings_of_run(config.eval, metadata, given)
    if taken:
        found = ", ".join(f"eval.{name}={value}" for name, value in taken.items())
        console.print(f"tested as in the run of the checkpoint: {found}")
    if vars(config.normalization) != vars(metadata.normalization):
        console.print(f"normalised as the checkpoint says, not as the config: {vars(metadata.normalization)}")
    return settings


@contextlib.contextmanager
def _kept(folder: Path | None, source, options: _Options, settings: EvalSettings) -> Iterator[None]:
    """Keeps the folder of results for this evaluation; see `files.results`."""
    with contextlib.ExitStack() as stack:
        if folder and jax.process_index() == 0:
            for name in source.names:
                child(folder, str(name), ".png")  # before hours of work, not after
            names = [*RESULTS, *["prob"] * options.probabilities, *["offsets"] * bool(settings.segfix)]
            read = [path for kind in ("paths", "images", "masks") for path in getattr(source, kind, ())]
            stack.enter_context(results(folder, "eval", names, read))
        sharding.exchange(b"")  # the other processes write after that
        yield


def _write(folder: Path, item: Item, classes: ClassTable, options: _Options) -> None:
    truth = item.sample["label"] if options.labelled else None
    writers.write_prediction(folder, item.name, item["labels"], classes, item.sample["image"], truth)
    if options.probabilities:
        with replacing(child(folder / "prob", item.name, ".npy")) as temporary:
            np.save(temporary, item["probabilities"])


def _origin_of_offsets(settings: EvalSettings) -> object:
    """Returns what is different for different offsets: of the files, or of the checkpoint of their net."""
    if not settings.segfix:
        return None
    given = _offsets_folder(settings)
    files = [file for file in given.iterdir() if file.suffix in OFFSET_SUFFIXES]
    return sorted([file.name, *stamp(file)] for file in files) if files else fingerprint(given)


def _source(settings: DataSettings, split: str, classes: ClassTable):
    """Returns the samples of a split, or its images where it has no masks."""
    if settings.source == "folder" and settings.root and not data.is_record_root(settings.root):
        folder = Path(settings.root).expanduser() / split
        if folder.is_dir() and not (folder / settings.label_folder).is_dir():
            return ImageSource(image_files(folder / settings.image_folder), classes)
    return data.make_source(settings, split, classes, complete=False)


def _with_offsets(settings: EvalSettings, source, split: str, folder: Path | None, console: Console) -> WithOffsets:
    """Returns the source with the offsets of files, or with those of a SegFix net, which it writes into OUT/offsets."""
    given = _offsets_folder(settings)
    if any(file.suffix in OFFSET_SUFFIXES for file in given.iterdir()):
        return WithOffsets(source, given)
    if folder is None:
        raise InputError("eval.segfix names a net, whose offsets are written: give --out")
    runner, variables = offset_runner(given, source, batch_size=settings.batch_size)
    for item in track(runner.run(variables), f"predicting the offsets of {split}", len(source), console=console):
        if not item.error:  # the evaluation itself names what could not be read
            write_offsets(child(folder / "offsets", item.name, ".npz"), item["offsets"])
    sharding.exchange(b"")  # a process may need the files of others
    return WithOffsets(source, folder / "offsets")


def _offsets_folder(settings: EvalSettings) -> Path:
    given = Path(settings.segfix).expanduser()
    if not given.is_dir():
        raise InputError(f"eval.segfix={given} is no folder: give one of offsets, or a checkpoint of a SegFix net")
    return given


def _readers_and_scores(
    settings: EvalSettings, classes: ClassTable, images: int, options: _Options
) -> tuple[dict[str, Reader], dict[str, Any]]:
    """Returns what is computed, and what adds it up; with refinement, both also "_before" it."""
    readers, scores, whens, left_out = {"labels": ArgMax()}, {}, ("",), classes.places(settings.left_out)
    if settings.segfix:
        readers = {"labels_before": ArgMax(), "labels": Refined("labels_before", settings.segfix_scale)}
        whens = ("", "_before")
    for when in whens:
        readers[f"counts{when}"] = ConfusionCounts(len(classes), f"labels{when}")
        scores[f"confusion{when}"] = Confusion(len(classes), images, f"counts{when}", left_out)
        if options.boundaries:
            scores[f"boundaries{when}"] = Boundaries(len(classes), images, f"labels{when}", left_out)
    if options.probabilities:
        readers["probabilities"] = Probabilities()
    return readers, scores if options.labelled else {}


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
