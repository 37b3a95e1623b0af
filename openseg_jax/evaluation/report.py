"""What an evaluation leaves behind: a table, a JSON file, label PNGs and overlays."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from openseg_jax import visualize
from openseg_jax.data.classes import ClassTable
from openseg_jax.data.images import write_image, write_mask


def print_scores(scores: dict, confusion: np.ndarray, classes: ClassTable, console: Console) -> None:
    """IoU, accuracy and share of pixels per class, and the summary under it."""
    table = Table("class", "IoU %", "accuracy %", "pixels %", title=f"{classes.title}, {len(classes)} classes")
    for column in table.columns[1:]:
        column.justify = "right"
    pixels = confusion.sum(1)
    for name, iou, accuracy, count in zip(classes.names, scores["iou"], scores["accuracy"], pixels, strict=True):
        table.add_row(name, _percent(iou), _percent(accuracy), f"{100 * count / max(pixels.sum(), 1):.2f}")
    table.add_section()
    table.add_row("mean", _percent(scores["miou"]), _percent(scores["mean_accuracy"]), "")
    console.print(table)
    console.print(
        f"mIoU {_percent(scores['miou'])} %, pixel accuracy {_percent(scores['pixel_accuracy'])} %, "
        f"frequency-weighted IoU {_percent(scores['frequency_weighted_iou'])} %"
    )


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.2f}"


def write_json(path: Path, scores: dict, confusion: np.ndarray, classes: ClassTable, context: dict) -> None:
    """Scores as fractions, null where undefined; context: whatever else tells how they came about."""
    per_class = {
        name: {"iou": _number(iou), "accuracy": _number(accuracy), "pixels": int(count)}
        for name, iou, accuracy, count in zip(
            classes.names, scores["iou"], scores["accuracy"], confusion.sum(1), strict=True
        )
    }
    summary = {key: _number(value) for key, value in scores.items() if np.ndim(value) == 0}
    content = {**summary, "classes": per_class, "confusion": confusion.tolist(), **context}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def write_prediction(
    out: Path, name: str, ids: np.ndarray, classes: ClassTable, image: np.ndarray, truth: np.ndarray | None = None
) -> None:
    """OUT/label/NAME.png with the ids that masks of this data set have on disk, and OUT/overlay/NAME.jpg.

    The overlay shows the prediction, and beside it the truth where there is one.
    """
    palette = np.zeros((256, 3), np.uint8)
    raw = classes.decode(ids)
    palette[list(classes.ids)] = classes.colors
    write_mask(out / "label" / f"{name}.png", raw, palette)
    pictures = [visualize.overlay(image, ids, classes)]
    if truth is not None:
        pictures.append(visualize.overlay(image, truth, classes))
    write_image(out / "overlay" / f"{name}.jpg", visualize.side_by_side(*pictures))
