"""What an evaluation leaves behind: a table, a JSON file, label PNGs and overlays."""

from __future__ import annotations

import csv
import json
import os
from html import escape
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from openseg_jax import page, plots, visualize
from openseg_jax.data.images import read_image, write_image, write_mask
from openseg_jax.labels.classes import ClassTable
from openseg_jax.metrics import statistics

WORST = 12  # images in a report
OTHER_SCORES = ("before_refinement", "legacy", "cityscapes_scripts")


def write(out: Path, scores: dict, confusion, classes: ClassTable, names: list[str], counts, facts: dict) -> None:
    """report.json, report.html, images.csv and images.npz. counts: int (images, 3, K). facts: how they came about."""
    write_json(out / "report.json", scores, confusion, classes, facts)
    write_images(out, names, counts)
    write_page(out, scores, confusion, classes, names, counts, facts)


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
    if "interval" in scores:
        low, high = map(_percent, scores["interval"])
        console.print(f"mIoU of 95 % of sets of as many images drawn from these: {low} to {high} %")
    if "boundary_iou" in scores:
        f, iou = _percent(scores["boundary_f_score"]), _percent(scores["boundary_iou"])
        console.print(f"boundary F-score {f} %, boundary IoU {iou} %")
    for source in OTHER_SCORES:
        if source in scores:
            found = ", ".join(f"{name.replace('_', ' ')} {_percent(x)} %" for name, x in scores[source].items())
            console.print(f"{source.replace('_', ' ')}: {found}")


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
    summary = {key: _number(value) for key, value in scores.items() if np.isscalar(value)}
    summary |= {key: value for key, value in scores.items() if isinstance(value, dict)}
    summary |= {"miou_interval": list(scores["interval"])} if "interval" in scores else {}
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
    write_image(out / "color" / f"{name}.png", visualize.colorize(ids, classes))


def write_images(out: Path, names: list[str], counts: np.ndarray) -> None:
    """images.csv, the scores of each image, and images.npz, the counts that `openseg_jax.evaluation compare` reads."""
    temporary = out / ".images.tmp.npz"
    np.savez_compressed(temporary, names=np.array(names), counts=counts)
    os.replace(temporary, out / "images.npz")
    with open(out / "images.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "accuracy", "miou"])
        writer.writerows(zip(names, statistics.accuracy(counts), statistics.mean_iou(counts), strict=True))


def write_page(out: Path, scores: dict, confusion, classes: ClassTable, names, counts, context: dict) -> None:
    """report.html: tables, the confusion matrix, and the images with the lowest mIoU."""
    numbers = {key: value for key, value in scores.items() if np.isscalar(value)}
    for source in OTHER_SCORES:
        numbers |= {f"{key} ({source})": value for key, value in scores.get(source, {}).items()}
    summary = [(key.replace("_", " "), _percent(value)) for key, value in numbers.items()]
    rows = zip(classes.names, scores["iou"], scores["accuracy"], confusion.sum(1), strict=True)
    parts = [f"<h1>{escape(classes.title)}, {escape(context['split'])}</h1><p>{escape(str(context['checkpoint']))}</p>"]
    parts.append(page.table(("score", "%"), summary))
    parts.append("<h2>Classes</h2>")
    parts.append(
        page.table(
            ("class", "IoU %", "accuracy %", "pixels"), ((n, _percent(i), _percent(a), p) for n, i, a, p in rows)
        )
    )
    parts.append(page.plot(plots.confusion(confusion, classes.names), "confusion"))
    worst = np.argsort(np.nan_to_num(statistics.mean_iou(counts), nan=2.0))[:WORST]
    parts.append("<h2>The worst images</h2><p>prediction, and the truth beside it</p>")
    for index in worst:
        path = out / "overlay" / f"{names[index]}.jpg"
        if path.exists():
            caption = f"{names[index]}: mIoU {_percent(statistics.mean_iou(counts[index]))} %"
            parts.append(page.picture(read_image(path), caption))
    if context["failures"]:
        parts.append("<h2>Left out</h2>" + page.table(("image", "why"), context["failures"].items()))
    (out / "report.html").write_text(page.document(classes.title, parts))
