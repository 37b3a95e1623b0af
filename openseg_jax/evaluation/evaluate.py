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
from openseg_jax.errors import InputError
from openseg_jax.evaluation import report
from openseg_jax.evaluation.inference import Evaluator
from openseg_jax.evaluation.metrics import scores


def evaluate(config: ConfigDict, checkpoint: str, split: str | None = None, out: str | None = None) -> dict:
    """Prints a table of scores and returns them; writes report.json, label PNGs and overlays into `out`."""
    model, variables, metadata = load(checkpoint)
    classes = data.class_table(config.data)
    if model.spec.num_classes != len(classes):
        raise InputError(
            f"{checkpoint} holds a net of {model.spec.num_classes} classes, but {classes.title} has {len(classes)}: "
            "take the checkpoint of another data set, or another config"
        )
    split = split or config.data.val_split
    source = data.make_source(config.data, split)
    mesh = sharding.make_mesh(config.mesh.spatial)
    evaluator = Evaluator(model, config.eval, source, metadata.normalization, mesh)

    def write(index: int, ids: np.ndarray) -> None:
        sample = source[index]
        report.write_prediction(Path(out), sample["name"], ids, classes, sample["image"], sample["label"])

    console = Console(quiet=jax.process_index() != 0)
    confusion = evaluator.run(
        sharding.put_replicated(mesh, variables),
        on_prediction=write if out else None,
        progress=lambda batches, count: track(batches, f"evaluating {split}", count, console=console),
    )
    result = scores(confusion)
    report.print_scores(result, confusion, classes, console)
    if out and jax.process_index() == 0:
        context = {
            "checkpoint": str(checkpoint),
            "step": metadata.step,
            "model": metadata.model,
            "split": split,
            "images": len(source),
            "normalization": metadata.normalization.to_dict(),
        }
        report.write_json(Path(out) / "report.json", result, confusion, classes, context)
        console.print(f"report.json, label/ and overlay/ are in {out}")
    return result
