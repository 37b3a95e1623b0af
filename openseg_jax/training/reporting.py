"""What a run tells while it runs: a progress bar, metrics.jsonl and TensorBoard event files."""

from __future__ import annotations

import contextlib
import json
import math
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from tensorboardX import SummaryWriter


class Reporter:
    """Writes nothing on any process but the first. metrics.jsonl has one JSON object per line, with a "step" each."""

    def __init__(self, workdir: Path, first_step: int, steps: int, batch_size: int, active: bool):
        self._active, self._steps, self._batch_size = active, steps, batch_size
        self._last = (first_step, time.monotonic())
        self.console = Console(quiet=not active, soft_wrap=True)
        if not active:
            return
        self._lines = workdir / "metrics.jsonl"
        _forget_after(self._lines, first_step)
        self._events = SummaryWriter(str(workdir / "events"), purge_step=first_step + 1, flush_secs=10)
        columns = (TextColumn("step {task.completed}/{task.total}"), BarColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._task = self._bar.add_task("compiling", total=steps, completed=first_step)
        self._bar.start()

    def compiled(self, step: int, metrics: dict[str, float], learning_rate: float) -> None:
        """After the first step, most of whose time went into compiling: images/s are measured from here on."""
        if self._active:
            seconds = time.monotonic() - self._last[1]
            self.console.print(f"first step after {seconds:.1f} s, compilation included; loss {metrics['loss']:.4f}")
            self.write(step, **metrics, learning_rate=learning_rate, first_step_seconds=seconds)
        self._last = (step, time.monotonic())

    def train(self, step: int, metrics: dict[str, float], learning_rate: float) -> None:
        """After `step` updates; metrics are means since the last report, learning_rate is that of the last update."""
        if not self._active:
            return
        now = time.monotonic()
        rate = (step - self._last[0]) / (now - self._last[1])
        self._last = (step, now)
        self.write(step, **metrics, learning_rate=learning_rate, images_per_second=rate * self._batch_size)
        text = (
            f"loss {metrics['loss']:.4f}  lr {learning_rate:.2e}  {rate * self._batch_size:.1f} images/s  "
            f"ETA {_duration((self._steps - step) / rate)}"
        )
        self._bar.update(self._task, completed=step, description=text)
        if not self.console.is_terminal:
            self.console.print(f"step {step}/{self._steps}  {text}")

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
        finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
        with open(self._lines, "a") as file:
            file.write(json.dumps({"step": step, **finite}) + "\n")
        for key, value in values.items():
            self._events.add_scalar(key, value, step)

    def close(self) -> None:
        if self._active:
            self._bar.stop()
            self._events.close()


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
