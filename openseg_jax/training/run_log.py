"""The log of a run: console, metrics.jsonl, TensorBoard events, validations, and at the end report.html."""

import contextlib
import csv
import json
import math
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import cv2
import jax
import numpy as np
from rich.progress import BarColumn, Progress, TextColumn
from tensorboardX import SummaryWriter

from openseg_jax import page, plots, sharding
from openseg_jax.config import Config
from openseg_jax.console import Console
from openseg_jax.data.images import read_image, write_image
from openseg_jax.errors import InputError, RunError
from openseg_jax.files import read_json, read_text, replacing, write_text
from openseg_jax.page import percent
from openseg_jax.results import child, results
from openseg_jax.training.validation import Validated

_NAMES = ("latest", "best", "metrics.jsonl", "metrics.csv", "events", "config.json", "validation.json", "overlay",
          "report.html", "profile")  # fmt: skip


@contextlib.contextmanager
def claimed(workdir: Path) -> Iterator[None]:
    """Keeps a workdir for one run.

    Raises:
        InputError: Another run is in it, or files that no run wrote. Every process of the run raises it.
    """
    problem = ""
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:
            checkpoints = any((workdir / "latest").glob("*/metadata"))  # of a version that left no mark
            try:
                stack.enter_context(results(workdir, "train", _NAMES, unmarked=checkpoints))
            except InputError as error:
                problem = str(error)
        problem = sharding.exchange(problem.encode())[0].decode()
        if problem:
            raise InputError(problem)
        yield


class RunLog:
    """Reads the metrics of training steps and writes them; only the first process prints and writes."""

    def __init__(self, workdir: Path, first_step: int, config: Config):
        self._active, self._settings = jax.process_index() == 0, config.train
        self._workdir, self._first_step = workdir, first_step
        self._pending: list[tuple[int, dict[str, jax.Array]]] = []
        self._last = (first_step, time.monotonic())
        self.console = Console(quiet=not self._active, soft_wrap=True)
        columns = (TextColumn("step {task.completed}/{task.total}"), BarColumn(), TextColumn("{task.description}"))
        shows = self._active and self.console.is_terminal
        self._bar = Progress(*columns, console=self.console, disable=not shows)
        self._task = self._bar.add_task("compiling", total=self._settings.steps, completed=first_step)
        if not self._active:
            return
        write_text(workdir / "config.json", config.to_json() + "\n")
        self._lines = workdir / "metrics.jsonl"
        _forget_after(self._lines, first_step)
        self._events = SummaryWriter(str(workdir / "events"), purge_step=first_step + 1, flush_secs=10)
        self._bar.start()

    def step(self, step: int, metrics: dict[str, jax.Array], up_to_now: bool) -> None:
        """Keeps the metrics of a step, and every `log_every` steps writes the means since the last time.

        The metrics of the last step, which the device may still compute, wait for the next time, unless `up_to_now`.
        Raises RunError if a metric is not finite.
        """
        self._pending.append((step, metrics))
        if step == self._first_step + 1:
            self._compiled(step, _mean(self._pending))
            self._pending = []
        elif up_to_now or step % self._settings.log_every == 0:
            cut = len(self._pending) - (not up_to_now)
            done, self._pending = self._pending[:cut], self._pending[cut:]
            if done:
                self._trained(done[-1][0], _mean(done))

    def _compiled(self, step: int, metrics: dict[str, float]) -> None:
        """After the first step, most of whose time went into compiling: images/s are measured from here on."""
        seconds = time.monotonic() - self._last[1]
        self.console.print(f"first step after {seconds:.1f} s, compilation included; loss {metrics['loss']:.4f}")
        self._write(step, **metrics, first_step_seconds=seconds)
        self._last = (step, time.monotonic())

    def _trained(self, step: int, metrics: dict[str, float]) -> None:
        now = time.monotonic()
        rate = (step - self._last[0]) / (now - self._last[1])
        self._last = (step, now)
        images = rate * self._settings.batch_size
        self._write(step, **metrics, images_per_second=images)
        left = timedelta(seconds=int((self._settings.steps - step) / rate))
        text = f"loss {metrics['loss']:.4f}  lr {metrics['learning_rate/head']:.2e}  {images:.1f} images/s  ETA {left}"
        self._bar.update(self._task, completed=step, description=text)
        if not self.console.is_terminal:
            self.console.print(f"step {step}/{self._settings.steps}  {text}")

    def validated(self, step: int, found: Validated) -> None:
        """Writes the scores, the confusion matrix and the images of a validation."""
        if not self._active:
            return
        self._write(step, **{f"val/{name}": value for name, value in found.scores.items()})
        content = {"step": step, "scores": found.scores}
        if found.confusion is not None:
            rows = [[name, _number(iou), _number(accuracy), pixels] for name, iou, accuracy, pixels in found.classes]
            content |= {"classes": rows, "confusion": found.confusion.tolist()}
            plot = plots.confusion(found.confusion, [name for name, *_ in found.classes])
            figure = cv2.imdecode(np.frombuffer(plot, np.uint8), 1)
            self._events.add_image("val/confusion", figure[..., ::-1], step, dataformats="HWC")
        write_text(self._workdir / "validation.json", json.dumps(content) + "\n")
        for name, image in found.images:
            self._events.add_image(f"val/{name}", image, step, dataformats="HWC")
            write_image(child(self._workdir / "overlay", name, ".jpg"), image)

    @contextlib.contextmanager
    def pause(self, what: str):
        """Leaves the time that the block takes, which is not training, out of images/s."""
        start = time.monotonic()
        self._bar.update(self._task, description=what)
        yield
        self._last = (self._last[0], self._last[1] + time.monotonic() - start)

    def _write(self, step: int, **values: float) -> None:
        if not self._active:
            return
        with open(self._lines, "a") as file:
            file.write(json.dumps({"step": step, **{key: _number(value) for key, value in values.items()}}) + "\n")
        for key, value in values.items():
            self._events.add_scalar(key, value, step)

    def close(self) -> None:
        """Ends the progress bar and writes metrics.csv and report.html."""
        if not self._active:
            return
        self._bar.stop()
        self._events.close()
        lines = [json.loads(line) for line in self._lines.read_text().splitlines()] if self._lines.exists() else []
        if not lines:
            return
        try:
            with replacing(self._workdir / "metrics.csv") as temporary, open(temporary, "w", newline="") as file:
                writer = csv.DictWriter(file, list(dict.fromkeys(key for line in lines for key in line)))
                writer.writeheader()
                writer.writerows(lines)
            _write_report(self._workdir, lines)
        except RunError as error:  # on a full disk, about which the run itself says more
            self.console.print(f"metrics.csv and report.html could not be written: {error}")


def _mean(pending: list[tuple[int, dict[str, jax.Array]]]) -> dict[str, float]:
    """Returns the mean of the metrics of some steps, without those that loss scaling skipped; waits for the last."""
    values = [jax.device_get(metrics) for _, metrics in pending]
    for (step, _), value in zip(pending, values, strict=True):
        for name, number in value.items():
            if not math.isfinite(number):
                raise RunError(
                    f"the {name.replace('_', ' ')} became {number} at step {step}; the last checkpoint is from before: "
                    "lower the learning rate, or look at the data of this step"
                )
    taken = [value for value in values if not value.get("skipped")] or values
    mean = {name: float(np.mean([value[name] for value in taken])) for name in values[0]}
    if "skipped" in mean:
        mean["skipped"] = float(sum(value["skipped"] for value in values))
    return mean


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _forget_after(path: Path, step: int) -> None:
    """Drops what an interrupted run wrote after the checkpoint from which this one continues."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError, KeyError):  # a last line cut short by a kill
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    write_text(path, "".join(kept))


# ---------------------------------------------------------------------------------------------------------------------
# report.html: the curves of a run, the scores of each class, and predictions beside the ground truth


def _write_report(workdir: Path, metrics: list[dict]) -> None:
    """Writes report.html from the lines of metrics.jsonl, and from validation.json and overlay/ if they exist."""
    parts = [f"<h1>{page.plain(workdir.name)}</h1>", _curves("training loss", {"loss": _points(metrics, "loss")})]
    keys = list(dict.fromkeys(key for line in metrics for key in line))
    rates = {key.partition("/")[2]: _points(metrics, key) for key in sorted(keys) if key.startswith("learning_rate/")}
    parts.append(_curves("learning rate", rates))
    norms = {"gradient norm": [(step, value) for step, value in _points(metrics, "gradient_norm") if value > 0]}
    parts.append(_curves("gradient norm", norms, log=True))
    scores = {key.partition("/")[2]: _points(metrics, key) for key in keys if key.startswith("val/")}
    if scores:
        parts.append(_curves("validation", scores))
    validation = workdir / "validation.json"
    if validation.exists():
        parts += _validation_parts(read_json(validation))
    overlays = sorted((workdir / "overlay").glob("*.jpg"))
    if overlays:
        parts.append("<h2>Predictions, beside the truth</h2>")
        parts += [page.image(read_image(path), path.stem) for path in overlays]
    config = read_text(workdir / "config.json")
    parts.append(f"<h2>Config</h2><details><summary>config.json</summary><pre>{page.plain(config)}</pre></details>")
    write_text(workdir / "report.html", page.document(workdir.name, parts))


def _validation_parts(content: dict) -> list[str]:
    parts = [f"<h2>Validation after step {page.plain(content['step'])}</h2>"]
    parts.append(page.table(("score", "%"), ((name, percent(value)) for name, value in content["scores"].items())))
    if "classes" in content:
        rows = [(name, percent(iou), percent(accuracy), pixels) for name, iou, accuracy, pixels in content["classes"]]
        parts.append("<h3>Classes</h3>" + page.table(("class", "IoU %", "accuracy %", "pixels"), rows))
        parts.append(page.plot(plots.confusion(np.array(content["confusion"]), [row[0] for row in rows]), "confusion"))
    return parts


def _curves(title: str, lines: dict, *, log: bool = False) -> str:
    return page.plot(plots.curves(lines, title, log=log), title)


def _points(metrics: list[dict], key: str) -> list[tuple[int, float]]:
    return [(line["step"], line[key]) for line in metrics if line.get(key) is not None]
