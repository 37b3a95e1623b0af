"""Fair timing of several programs: each runs in a process of its own, and they take turns after warming up.

A contestant is a function (settings) -> facts, which its process calls first. "run" in the facts does the work once and
returns when it is done; "device_peak_mb" returns the peak of the device's memory, which is otherwise that of the
process. All other facts are numbers and names for tables. Contestants import JAX and PyTorch themselves, so that the
memory of the one does not count as that of the other.
"""

import argparse
import contextlib
import ctypes
import importlib.metadata
import itertools
import json
import multiprocessing
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

_run: Callable  # of the contestant of this process
_peak_mb: Callable


def parser(description: str, **numbers: int) -> argparse.ArgumentParser:
    """Returns a parser with --repeats, --out, and an option for each of these numbers, which is its default."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--repeats", type=int, default=5, help="timed runs of each contestant")
    result.add_argument("--out", help="write the result as JSON")
    for name, default in numbers.items():
        result.add_argument(f"--{name}", type=int, default=default)
    return result


def compete(contestants: dict[str, Callable], arguments: argparse.Namespace, *, work: int = 1, **more) -> list[dict]:
    """Runs the contestants in turn, A B A B ..., `arguments.repeats` times.

    Args:
        contestants: The contestants by name.
        arguments: The arguments of the command, which are the settings of the contestants.
        work: The number of images or other units in a run.
        **more: Further settings.

    Returns:
        For each contestant its settings and facts, "name", "first_s", the time of its first run, "ms", the median time
        of the others, "ms_each" and "per_s", for a unit of work, and "peak_mb"; "time", "speed" and "memory" are ratios
        to the contestant whose name begins with PyTorch, or to the first one.
    """
    settings = argparse.Namespace(**vars(arguments), **more)
    results, times, spawn = [], {name: [] for name in contestants}, multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        pools = {name: stack.enter_context(ProcessPoolExecutor(1, spawn)) for name in contestants}
        for name, pool in pools.items():  # one after the other: preparing must not disturb a neighbour
            facts = pool.submit(_prepare, contestants[name], settings).result()
            results.append(vars(settings) | facts | {"name": name})
        for _, result in itertools.product(range(settings.repeats), results):
            seconds, result["peak_mb"] = pools[result["name"]].submit(_timed).result()
            times[result["name"]].append(1000 * seconds)
    other = next((result for result in results if result["name"].lower().startswith("pytorch")), results[0])
    for result in results:
        result["ms"] = ms = statistics.median(times[result["name"]])
        result |= {"ms_each": ms / work, "per_s": 1000 * work / ms}
    for r in results:
        r |= {"time": r["ms"] / other["ms"], "speed": other["ms"] / r["ms"], "memory": r["peak_mb"] / other["peak_mb"]}
    return results


def _prepare(contestant: Callable, settings: argparse.Namespace) -> dict:
    global _run, _peak_mb
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    facts = contestant(settings)
    _run, _peak_mb = facts.pop("run"), facts.pop("device_peak_mb", _process_peak_mb)
    first_s, _ = _timed()
    _timed()
    # What compiling took must not count as what running takes.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return {"first_s": first_s} | facts


def _timed() -> tuple[float, float]:
    """Returns the seconds that a run takes, and the peak memory after it, in MB."""
    start = time.perf_counter()
    _run()
    return time.perf_counter() - start, _peak_mb()


def _process_peak_mb() -> float:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def on_jax(run: Callable, **facts) -> dict:
    """Returns the facts of a contestant whose `run` returns arrays of JAX, for which it has to wait."""
    import jax

    device = jax.devices()[0]
    if device.platform == "gpu":
        facts["device_peak_mb"] = lambda: device.memory_stats()["peak_bytes_in_use"] / 2**20
    return facts | {"run": lambda: jax.block_until_ready(run()), "device": str(device)}


def torch_device() -> str:
    """Returns where contestants in PyTorch run."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def on_torch(run: Callable, **facts) -> dict:
    """Returns the facts of a contestant that runs on `torch_device`."""
    import torch

    facts |= {"run": run, "device": torch_device()}
    if torch_device() == "cuda":
        facts["run"] = lambda: (run(), torch.cuda.synchronize())
        facts["device_peak_mb"] = lambda: torch.cuda.max_memory_allocated() / 2**20
    return facts


def report(title: str, found: list[dict], out: str | None, **headings: str) -> None:
    """Prints a table, and what one needs to know to repeat the measurement, and writes both as JSON.

    Args:
        title: The title of the table.
        found: The rows, dictionaries of equal keys.
        out: The file, if any.
        **headings: The headings of the keys that are shown; by default all are, under their own names.
    """
    headings = headings or dict(zip(found[0], found[0], strict=True))
    rows = [{heading: facts[key] for key, heading in headings.items()} for facts in found]
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*(f"{x:,.2f}" if isinstance(x, float) else str(x) for x in row.values()))
    Console(width=120).print(table)
    versions, info = {}, Path("/proc/cpuinfo")
    for package in ("jax", "flax", "torch", "timm", "numpy", "opencv-python-headless"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    cpu = re.search(r"^model name\s*: (.*)$", info.read_text() if info.exists() else "", re.MULTILINE)
    environment = {
        "python": platform.python_version(),
        "cpu": f"{os.cpu_count()} x {cpu[1] if cpu else platform.processor()}",
        "versions": versions,
        "command": " ".join(["python -m", sys.modules["__main__"].__spec__.name, *sys.argv[1:]]),
    }
    print(json.dumps(environment, indent=2))
    if out:
        Path(out).write_text(json.dumps({"title": title, "rows": rows, **environment}, indent=2) + "\n")
