"""The evaluation command: a checkpoint and a data set in, scores and pictures out."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.progress import track

from openseg_jax import data, models, sharding
from openseg_jax.checkpoints import load
from openseg_jax.data.offset_files import OFFSET_SUFFIXES
from openseg_jax.data.pictures import PictureSource
from openseg_jax.errors import InputError, RunError
from openseg_jax.evaluation import report
from openseg_jax.evaluation.boundaries import BoundaryEvaluator
from openseg_jax.evaluation.cityscapes import official_scores
from openseg_jax.evaluation.inference import Evaluator
from openseg_jax.evaluation.legacy import legacy_scores
from openseg_jax.evaluation.progress import Progress, Writer
from openseg_jax.evaluation.refined import RefinedEvaluator, WithOffsets, predict_offsets
from openseg_jax.labels.classes import ClassTable
from openseg_jax.metrics import statistics
from openseg_jax.metrics.boundaries import boundary_regions, f_scores, mean_scores, scored
from openseg_jax.metrics.confusion import scores

_KEPT = 16  # samples, of the batch that is being worked on


def evaluate(
    config: ConfigDict,
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
    """Prints a table of scores and returns them; writes report.json, report.html, images.csv, label/, color/, overlay/
    into `out`.

    A split without masks gets predictions and no scores. resume: go on after an interrupted evaluation into the same
    `out`. probabilities: also prob/NAME.npy, float16 (H, W, K). boundaries: also boundary F-score and boundary IoU;
    with eval.segfix always, and before refinement, too.
    legacy: also what the original's evaluators would have printed. cityscapes: also the scores of cityscapesScripts.
    A SegFix net is scored for its boundaries and directions. Raises RunError, after all is written, if images could
    not be read.
    """
    model, variables, metadata = load(checkpoint)
    boundaries = boundaries or bool(config.eval.segfix)  # what refinement is for
    split, mesh = split or config.data.val_split, sharding.make_mesh(config.mesh.spatial)
    variables = sharding.put_replicated(mesh, variables)
    if model.head is not None and not model.head.needs_classes:
        return _evaluate_boundaries(config, model, variables, metadata.normalization, split, mesh)
    classes = data.class_table(config.data)
    if model.spec.num_classes != len(classes):
        raise InputError(
            f"{checkpoint} holds a net of {model.spec.num_classes} classes, but {classes.title} has {len(classes)}: "
            "take the checkpoint of another data set, or another config"
        )
    source = _source(config.data, split, classes)
    labelled = not isinstance(source, PictureSource)
    if not labelled and out is None:
        raise InputError(f"{split} has no masks, so there is nothing to score: give --out for its predictions")
    if cityscapes and not (labelled and out and hasattr(source, "masks")):
        raise InputError("--cityscapes_scripts reads label PNGs and masks: give --out, and a folder with masks")
    console = Console(quiet=jax.process_index() != 0)
    track_on = lambda what: lambda steps, count: track(steps, what, count, console=console)  # noqa: E731
    folder = Path(out) if out else None
    kind = Evaluator
    if config.eval.segfix:
        source = _with_offsets(config.eval, source, folder, track_on(f"predicting the offsets of {split}"))
        kind = functools.partial(RefinedEvaluator, scale=config.eval.segfix_scale)
    evaluator = kind(model, config.eval, source, metadata.normalization, mesh)
    path = folder / "progress.npz" if folder else None
    key = {"checkpoint": str(checkpoint), "step": metadata.step, "split": split, "images": list(map(str, source.names)),
           "eval": config.eval.to_json_best_effort(), "boundaries": boundaries}  # fmt: skip
    found = Progress.read(path, key) if path and resume else None
    progress = found or Progress.begin(key, len(source), len(classes), evaluator.versions)
    if found:
        console.print(f"going on after {found.batches} of {evaluator.batch_count} batches")
    progress.failures |= getattr(source, "incomplete", {})
    pictures = _Pictures(source, classes, progress, folder, labelled, boundaries)
    evaluator.run(
        variables,
        on_prediction=pictures.on_prediction if folder or boundaries else None,
        on_counts=progress.images.__setitem__,
        on_unrefined=pictures.on_unrefined if boundaries else None,
        on_probabilities=pictures.on_probabilities if probabilities and folder else None,
        on_failure=pictures.on_failure,
        on_batch=Writer(progress, path),
        progress=track_on(f"evaluating {split}"),
        start=progress.batches,
    )
    progress.gather()  # after which the pictures of all processes are there, too
    for name, message in progress.failures.items():
        console.print(f"[red]left out[/red] {name}: {message}")
    confusions = np.zeros((evaluator.versions, len(classes), len(classes)), np.int64) + progress.total
    if labelled and not confusions.any():
        raise InputError(f"no pixel of {split} is labelled, so there is nothing to score")
    result = _scores(confusions, progress, boundaries) if labelled else {}
    if labelled and legacy:
        f = scored(progress.boundaries[0])[..., 0] if boundaries else None
        result["legacy"] = legacy_scores(confusions[0], f, evaluator.pixels, classes)
    if cityscapes:
        result["cityscapes_scripts"] = _official(source, folder, progress.failures)
    if labelled:
        report.print_scores(result, confusions[0], classes, console)
    if folder and jax.process_index() == 0:
        facts = {"checkpoint": str(checkpoint), "step": metadata.step, "model": metadata.model, "split": split,
                 "images": len(source), "protocol": config.eval.to_dict(), "failures": progress.failures,
                 "normalization": metadata.normalization.to_dict()}  # fmt: skip
        if labelled:
            report.write(folder, result, confusions[0], classes, key["images"], progress.images, facts)
        path.unlink(missing_ok=True)
        console.print(f"report.json, report.html, images.csv, label/, color/ and overlay/ are in {folder}")
    if progress.failures:
        rest = sum(name not in progress.failures for name in source.names)
        raise RunError(
            f"{len(progress.failures)} images of {split} could not be read; the scores are of the {rest} others"
        )
    return result


def _scores(confusions: np.ndarray, progress: Progress, boundaries: bool) -> dict:
    """Of the results, and before refinement, if there was one."""
    result = scores(confusions[0]) | {"interval": statistics.interval(progress.images)}
    result |= mean_scores(progress.boundaries[0]) if boundaries else {}
    for before, found in zip(confusions[1:], progress.boundaries[1:], strict=True):
        numbers = {name: value for name, value in scores(before).items() if np.isscalar(value)}
        result["before_refinement"] = numbers | (mean_scores(found) if boundaries else {})
    return result


@dataclasses.dataclass
class _Pictures:
    """What is done with each image, as soon as its prediction is there."""

    source: object
    classes: ClassTable
    progress: Progress
    folder: Path | None
    labelled: bool
    boundaries: bool

    def __post_init__(self):
        self._sample = functools.lru_cache(_KEPT)(self.source.__getitem__)  # read once, for all that is done with it

    def on_prediction(self, index: int, ids: np.ndarray) -> None:
        sample = self._sample(index)
        if self.boundaries:
            self._score_boundaries(0, index, ids, sample["label"])
        if self.folder:
            truth = sample["label"] if self.labelled else None
            report.write_prediction(self.folder, sample["name"], ids, self.classes, sample["image"], truth)

    def on_unrefined(self, index: int, ids: np.ndarray) -> None:
        self._score_boundaries(1, index, ids, self._sample(index)["label"])

    def _score_boundaries(self, version: int, index: int, ids: np.ndarray, truth: np.ndarray) -> None:
        pair = ids, truth, len(self.classes)
        self.progress.boundaries[version, index] = np.column_stack([f_scores(*pair), boundary_regions(*pair)])

    def on_probabilities(self, index: int, probabilities: np.ndarray) -> None:
        path = self.folder / "prob" / f"{self.source.names[index]}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, probabilities)

    def on_failure(self, index: int, error: InputError) -> None:
        self.progress.failures[str(self.source.names[index])] = str(error)


def _with_offsets(config, source, folder: Path | None, progress):
    """The source with the offsets of `eval.segfix`: a folder of them, or a net, whose go to OUT/offsets."""
    given = Path(config.segfix).expanduser()
    if not given.is_dir():
        raise InputError(f"eval.segfix={given} is no folder: give one of offsets, or a checkpoint of a SegFix net")
    if any(file.suffix in OFFSET_SUFFIXES for file in given.iterdir()):
        return WithOffsets(source, given)
    if folder is None:
        raise InputError("eval.segfix names a net, whose offsets are written: give --out")
    predict_offsets(given, source, config.batch_size, folder / "offsets", progress)
    return WithOffsets(source, folder / "offsets")


def _official(source, folder: Path, failures: dict[str, str]) -> dict[str, float]:
    pairs = [(folder / "label" / f"{name}.png", mask) for name, mask in zip(source.names, source.masks, strict=True)
             if name not in failures]  # fmt: skip
    return official_scores(*zip(*pairs, strict=True))


def _evaluate_boundaries(config, model: models.Segmentor, variables, normalization, split: str, mesh) -> dict:
    """Scores of a SegFix net, printed and returned."""
    if "offset" not in config.data.maps:
        raise InputError(
            f"{model.spec.name} predicts boundaries: take configs/segfix.py, or --config.data.maps='(\"offset\",)'"
        )
    source = data.make_source(config.data, split)
    evaluator = BoundaryEvaluator(model, config.eval, source, normalization, mesh, config.loss.segfix)
    console = Console(quiet=jax.process_index() != 0)
    counts = evaluator.run(
        variables, progress=lambda batches, count: track(batches, f"evaluating {split}", count, console=console)
    )
    result = evaluator.summary(counts)
    for name, value in result.items():
        console.print(f"{name.replace('_', ' ')} {100 * value:.2f} %")
    return result


def _source(config, split: str, classes):
    """The samples of a split, or, where it has no masks, its pictures."""
    if config.source == "folder" and config.root and not data.is_record_root(config.root):
        folder = Path(config.root).expanduser() / split
        if folder.is_dir() and not (folder / config.label_folder).is_dir():
            return PictureSource.of_folder(folder / config.image_folder, classes)
    return data.make_source(config, split, complete=False)
