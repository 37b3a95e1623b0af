"""Fair timing of several programs: each in a process of its own, taking turns, after warming up.

A contestant is a function (settings) -> dict with "run", a function that does the work once and returns when it is
done, and any numbers worth reporting. It runs in a fresh process, so that memory is its own.
"""

import argparse
import ctypes
import importlib.metadata
import json
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table


def compete(contestants: dict[str, Callable], settings: dict, *, repeats: int) -> dict[str, dict]:
    """Runs the contestants in turn, A B A B ..., and returns for each {"median_ms", "min_ms", "peak_mb", ...}."""
    context = multiprocessing.get_context("spawn")
    workers = {}
    for name, contestant in contestants.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(contestant, settings, theirs), daemon=True)
        process.start()
        theirs.close()
        workers[name] = (process, ours, ours.recv())  # one after the other: preparing must not disturb a neighbour
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, (_, connection, _) in workers.items():
            connection.send("run")
            times[name].append(connection.recv())
    results = {}
    for name, (process, connection, facts) in workers.items():
        connection.send("stop")
        results[name] = {
            "median_ms": 1000 * statistics.median(times[name]),
            "min_ms": 1000 * min(times[name]),
            "peak_mb": connection.recv(),
            **facts,
        }
        process.join()
    return results


def _work(contestant, settings, connection) -> None:
    prepared = contestant(settings)
    run, device_peak = prepared.pop("run"), prepared.pop("device_peak_mb", None)
    for _ in range(2):
        run()
    _forget_peak()
    connection.send(prepared)
    while connection.recv() == "run":
        start = time.perf_counter()
        run()
        connection.send(time.perf_counter() - start)
    connection.send(device_peak() if device_peak else _peak_mb())


def _forget_peak() -> None:
    """What compiling took must not count as what running takes."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def environment() -> dict:
    """What one needs to know to repeat a measurement."""
    packages = ("jax", "flax", "torch", "timm", "numpy", "opencv-python-headless")
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    cpu = next((line.split(":")[1].strip() for line in _cpu_info() if line.startswith("model name")), "")
    return {
        "python": platform.python_version(),
        "cpu": f"{multiprocessing.cpu_count()} x {cpu or platform.processor()}",
        "versions": versions,
        "command": " ".join(["python -m", sys.modules["__main__"].__spec__.name, *sys.argv[1:]]),
    }


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def report(title: str, rows: list[dict], out: str | None) -> None:
    """Prints rows of equal keys as a table, and writes them with the environment as JSON."""
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*(f"{x:,.2f}" if isinstance(x, float) else str(x) for x in row.values()))
    Console(width=120).print(table)
    facts = environment()
    print(json.dumps(facts, indent=2))
    if out:
        Path(out).write_text(json.dumps({"title": title, "rows": rows, **facts}, indent=2) + "\n")


def parser(description: str) -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--repeats", type=int, default=5, help="timed runs of each contestant")
    result.add_argument("--out", help="write the result as JSON")
    return result
