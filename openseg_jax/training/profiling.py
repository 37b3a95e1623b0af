"""A profile of a few steps: a trace to look at, and a table of the operations that took most of the time."""

from collections import defaultdict
from pathlib import Path

import jax
from rich.table import Table

from openseg_jax.console import Console
from openseg_jax.errors import InputError


def parse_steps(text: str | None) -> tuple[int, int] | None:
    """Parses "10:15" into (10, 15); raises InputError on anything else."""
    if not text:
        return None
    first, _, last = text.partition(":")
    if not (first.isdigit() and last.isdigit() and 0 < int(first) <= int(last)):
        raise InputError(f"--profile_steps takes FIRST:LAST, such as 10:15, found {text!r}")
    return int(first), int(last)


class Profiler:
    """Traces the steps from the first to the last of `steps`; without steps it does nothing."""

    def __init__(self, folder: Path, steps: tuple[int, int] | None, console: Console):
        self._folder, self._console = folder, console
        self._first, self._last = steps or (0, 0)
        self._running = False

    def before(self, step: int) -> None:
        if step == self._first:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def after(self, step: int, metrics: dict) -> None:
        if self._running and step >= self._last:
            jax.block_until_ready(metrics)
            self.close()

    def close(self) -> None:
        if not self._running:
            return
        self._running = False
        jax.profiler.stop_trace()
        count = self._last - self._first + 1
        table = Table("operation", "ms per step", "calls per step", title=f"steps {self._first} to {self._last}")
        for name, nanoseconds, calls in top_operations(self._folder)[:20]:
            table.add_row(name[:80], f"{nanoseconds / 1e6 / count:.3f}", f"{calls / count:.0f}")
        self._console.print(table)
        self._console.print(f"to look at the trace: tensorboard --logdir {self._folder} (pip install xprof)")


def top_operations(folder: Path) -> list[tuple[str, float, int]]:
    """Returns (name, nanoseconds, calls) of each operation in the newest trace of a folder, longest first.

    These are the operations on the devices, or on a CPU, which has no device in traces, those of XLA's threads.
    """
    trace = max(folder.glob("plugins/profile/*/*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    planes = list(jax.profiler.ProfileData.from_file(str(trace)).planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:")]
    lines = [line for plane in devices for line in plane.lines if line.name in ("XLA Ops", "") or "Stream" in line.name]
    if not lines:
        lines = [line for plane in planes for line in plane.lines if line.name.startswith("tf_XLA")]
    total: dict[str, list] = defaultdict(lambda: [0.0, 0])
    for line in lines:
        for event in line.events:
            if "::" not in event.name:  # the runtime's own work
                total[event.name][0] += event.duration_ns
                total[event.name][1] += 1
    return sorted(((name, *sums) for name, sums in total.items()), key=lambda row: -row[1])
