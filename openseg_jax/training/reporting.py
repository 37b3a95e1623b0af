"""What a run tells while it runs: a progress bar, metrics.jsonl, TensorBoard events, and in the end report.html."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import time
from pathlib import Path

import cv2
import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from tensorboardX import SummaryWriter

from openseg_jax import plots, visualize
from openseg_jax.data.images import write_image
from openseg_jax.labels.classes import ClassTable
from openseg_jax.metrics.confusion import scores
from openseg_jax.training.report import write_report


class Reporter:
    """Writes nothing on any process but the first. metrics.jsonl has one JSON object per line, with a "step" each."""

    def __init__(self, workdir: Path, first_step: int, config, val_source, classes: ClassTable, evaluator):
        self._active, self._steps = jax.process_index() == 0, config.train.steps
        self._batch_size = config.train.batch_size
        self._workdir, self._source, self._evaluator = workdir, val_source, evaluator
        self._classes = evaluator.classes or classes
        self._kept: dict[int, np.ndarray] = {}
        self._last = (first_step, time.monotonic())
        self.console = Console(quiet=not self._active, soft_wrap=True)
        if not self._active:
            return
        (workdir / "config.json").write_text(config.to_json_best_effort(indent=2) + "\n")
        self._lines = workdir / "metrics.jsonl"
        _forget_after(self._lines, first_step)
        self._events = SummaryWriter(str(workdir / "events"), purge_step=first_step + 1, flush_secs=10)
        columns = (TextColumn("step {task.completed}/{task.total}"), BarColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._task = self._bar.add_task("compiling", total=self._steps, completed=first_step)
        self._bar.start()

    def compiled(self, step: int, metrics: dict[str, float]) -> None:
        """After the first step, most of whose time went into compiling: images/s are measured from here on."""
        if self._active:
            seconds = time.monotonic() - self._last[1]
            self.console.print(f"first step after {seconds:.1f} s, compilation included; loss {metrics['loss']:.4f}")
            self.write(step, **metrics, first_step_seconds=seconds)
        self._last = (step, time.monotonic())

    def train(self, step: int, metrics: dict[str, float]) -> None:
        """After `step` updates; metrics are means since the last report."""
        if not self._active:
            return
        now = time.monotonic()
        rate = (step - self._last[0]) / (now - self._last[1])
        self._last = (step, now)
        self.write(step, **metrics, images_per_second=rate * self._batch_size)
        text = (
            f"loss {metrics['loss']:.4f}  lr {metrics['learning_rate/head']:.2e}  "
            f"{rate * self._batch_size:.1f} images/s  ETA {_duration((self._steps - step) / rate)}"
        )
        self._bar.update(self._task, completed=step, description=text)
        if not self.console.is_terminal:
            self.console.print(f"step {step}/{self._steps}  {text}")

    def keep_prediction(self, index: int, ids: np.ndarray) -> None:
        """Of a validation image that `validated` shows."""
        if self._active:
            self._kept[index] = ids.copy()

    def validated(self, step: int, counts: np.ndarray) -> None:
        """Writes scores, pictures of predictions beside the truth, and the confusion matrix."""
        if not self._active:
            return
        summary = self._evaluator.summary(counts)
        self.write(step, **{f"val/{name}": value for name, value in summary.items()})
        content = {"step": step, "scores": summary}
        if counts.shape[0] == counts.shape[1]:
            found = scores(counts)
            per_class = zip(self._classes.names, found["iou"], found["accuracy"], counts.sum(1), strict=True)
            content["classes"] = [[name, *(_number(v) for v in values)] for name, *values in per_class]
            content["confusion"] = counts.tolist()
            figure = cv2.imdecode(np.frombuffer(plots.confusion(counts, self._classes.names), np.uint8), 1)
            self._events.add_image("val/confusion", figure[..., ::-1], step, dataformats="HWC")
        (self._workdir / "validation.json").write_text(json.dumps(content) + "\n")
        for index, ids in sorted(self._kept.items()):
            sample = self._source[index]
            pair = (ids, self._evaluator.truth(sample))
            picture = visualize.side_by_side(*(visualize.overlay(sample["image"], x, self._classes) for x in pair))
            self._events.add_image(f"val/{sample['name']}", picture, step, dataformats="HWC")
            write_image(self._workdir / "overlay" / f"{sample['name']}.jpg", picture)
        self._kept.clear()

    @contextlib.contextmanager
    def interrupted(self, what: str):
        """Something other than training goes on: it does not count into images/s."""
        start = time.monotonic()
        if self._active:
            self._bar.update(self._task, description=what)
        yield
        self._last = (self._last[0], self._last[1] + time.monotonic() - start)

    def write(self, step: int, **values: float) -> None:
        if not self._active:
            return
        with open(self._lines, "a") as file:
            file.write(json.dumps({"step": step, **{key: _number(value) for key, value in values.items()}}) + "\n")
        for key, value in values.items():
            self._events.add_scalar(key, value, step)

    def close(self) -> None:
        """Ends the bar, and writes metrics.csv and report.html."""
        if self._active:
            self._bar.stop()
            self._events.close()
            lines = read_metrics(self._workdir)
            try:
                if lines:
                    _write_csv(self._workdir / "metrics.csv", lines)
                    write_report(self._workdir, lines)
            except OSError as error:  # a full disk, of which the run itself has more to tell
                self.console.print(f"metrics.csv and report.html could not be written: {error}")


def read_metrics(workdir: Path) -> list[dict]:
    """The lines of metrics.jsonl."""
    path = workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _write_csv(path: Path, lines: list[dict]) -> None:
    columns = list(dict.fromkeys(key for line in lines for key in line))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(lines)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _forget_after(path: Path, step: int) -> None:
    """Drops what an interrupted run wrote after the checkpoint from which this one continues."""
    if path.exists():
        kept = []
        for line in path.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (json.JSONDecodeError, KeyError):
                continue  # a last line cut short by a kill
        path.write_text("".join(line + "\n" for line in kept))


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
