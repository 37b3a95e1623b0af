"""What an evaluation leaves behind besides label maps: a table, a JSON file, a page, and the counts of each image."""

import csv
import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rich.table import Column, Table

from openseg_jax import page, plots
from openseg_jax.console import Console
from openseg_jax.data.images import read_image
from openseg_jax.files import replacing, write_text
from openseg_jax.labels.classes import ClassTable
from openseg_jax.metrics.confusion import Confusion, accuracy, mean_iou
from openseg_jax.page import percent

WORST = 12  # images in a report
OTHER_SCORES = ("before_refinement", "legacy", "cityscapes_scripts")


@dataclasses.dataclass(frozen=True)
class Report:
    """The results of an evaluation.

    scores: Numbers by name, arrays (K,) per class, an interval, and other scores as dictionaries. counts: Of pixels.
    names: Of the images. facts: How the results came about: "checkpoint", "split", "failures" and others.
    """

    scores: dict
    counts: Confusion
    classes: ClassTable
    names: list[str]
    facts: dict

    def print(self, console: Console) -> None:
        """Prints IoU, accuracy and share of pixels per class, and a summary."""
        columns = [Column(name, justify="right") for name in ("IoU %", "accuracy %", "pixels %")]
        table = Table("class", *columns, title=f"{self.classes.title}, {len(self.classes)} classes")
        total = self.counts.matrix.sum()
        for name, iou, recall, pixels in self._per_class():
            table.add_row(name, percent(iou), percent(recall), percent(pixels / max(total, 1)))
        table.add_section()
        table.add_row("mean", percent(self.scores["miou"]), percent(self.scores["mean_accuracy"]), "")
        console.print(table)
        for line in self._summary():
            console.print(line)

    def write(self, out: Path) -> None:
        """Writes report.json, report.html, images.csv and images.npz."""
        write_text(out / "report.json", json.dumps(self._content(), indent=2) + "\n")
        counts = self.counts.images
        with replacing(out / "images.npz") as temporary:  # what `openseg compare` reads
            np.savez_compressed(temporary, names=np.array(self.names), counts=counts)
        with replacing(out / "images.csv") as temporary, temporary.open("w", newline="") as file:
            rows = zip(self.names, accuracy(counts), mean_iou(counts), strict=True)
            csv.writer(file).writerows([("name", "accuracy", "miou"), *rows])
        write_text(out / "report.html", page.document(self.classes.title, self._parts(out)))

    def _per_class(self) -> Iterable[tuple[str, float, float, int]]:
        """Returns name, IoU, accuracy and number of labelled pixels of each class."""
        pixels = self.counts.matrix.sum(1)
        return zip(self.classes.names, self.scores["iou"], self.scores["accuracy"], pixels, strict=True)

    def _summary(self) -> Iterable[str]:
        scores, names = self.scores, ("miou", "pixel_accuracy", "frequency_weighted_iou")
        miou, pixels, weighted = (percent(scores[name]) for name in names)
        yield f"mIoU {miou} %, pixel accuracy {pixels} %, frequency-weighted IoU {weighted} %"
        if left_out := self.facts["protocol"]["left_out"]:
            yield f"left out of the means: {', '.join(left_out)}"
        low, high = map(percent, scores["interval"])
        yield f"mIoU of 95 % of sets of as many images drawn from these: {low} to {high} %"
        if "boundary_iou" in scores:
            f, iou = percent(scores["boundary_f_score"]), percent(scores["boundary_iou"])
            yield f"boundary F-score {f} %, boundary IoU {iou} %"
        for source in OTHER_SCORES:
            if source in scores:
                found = ", ".join(f"{name.replace('_', ' ')} {percent(x)} %" for name, x in scores[source].items())
                yield f"{source.replace('_', ' ')}: {found}"

    def _content(self) -> dict:
        """Returns the content of report.json: scores as fractions, None where they are undefined."""
        content = {key: _number(value) for key, value in self.scores.items() if np.isscalar(value)}
        content |= {key: value for key, value in self.scores.items() if isinstance(value, dict)}
        content["miou_interval"] = list(self.scores["interval"])
        content["classes"] = {
            name: {"iou": _number(iou), "accuracy": _number(recall), "pixels": int(pixels)}
            for name, iou, recall, pixels in self._per_class()
        }
        return content | {"confusion": self.counts.matrix.tolist()} | self.facts

    def _parts(self, out: Path) -> Iterable[str]:
        """Returns tables, the confusion matrix, and the images with the lowest mIoU, whose overlays are in `out`."""
        numbers = {key: value for key, value in self.scores.items() if np.isscalar(value)}
        for source in OTHER_SCORES:
            numbers |= {f"{key} ({source})": value for key, value in self.scores.get(source, {}).items()}
        yield f"<h1>{page.plain(self.classes.title)}, {page.plain(self.facts['split'])}</h1>"
        yield f"<p>{page.plain(self.facts['checkpoint'])}</p>"
        yield page.table(("score", "%"), ((key.replace("_", " "), percent(value)) for key, value in numbers.items()))
        rows = ((name, percent(iou), percent(recall), pixels) for name, iou, recall, pixels in self._per_class())
        yield "<h2>Classes</h2>" + page.table(("class", "IoU %", "accuracy %", "pixels"), rows)
        yield page.plot(plots.confusion(self.counts.matrix, self.classes.names), "confusion")
        yield "<h2>The worst images</h2><p>prediction, and the ground truth beside it</p>"
        found = mean_iou(self.counts.images)
        for index in np.argsort(np.nan_to_num(found, nan=2.0))[:WORST]:
            path = out / "overlay" / f"{self.names[index]}.jpg"
            if path.exists():
                yield page.image(read_image(path), f"{self.names[index]}: mIoU {percent(found[index])} %")
        if self.facts["failures"]:
            yield "<h2>Left out</h2>" + page.table(("image", "why"), self.facts["failures"].items())


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
