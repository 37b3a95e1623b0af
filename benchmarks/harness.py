"""Fair timing of several programs: each runs in a process of its own, and they take turns after warming up.

A contestant is a function (settings) -> facts, which its process calls first. "run" in the facts does the work once and
returns when it is done; "device_peak_mb" returns the peak of the device's memory, which is otherwise that of the
process; "forget_peak" lets it begin anew, after warming up. All other facts are numbers and names for tables.
Contestants import JAX and PyTorch themselves, so that the memory of the one does not count as that of the other. One
that fails is left out, and its error is reported beside what the others do.
"""

import argparse
import contextlib
import ctypes
import functools
import importlib.metadata
import itertools
import json
import multiprocessing
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed, wait
from pathlib import Path

from rich.console import Console
from rich.table import Table

from openseg_jax.files import write_text

_PACKAGES = ("jax", "jax-cuda13-plugin", "flax", "torch", "triton", "nvidia-cudnn-cu13", "timm", "numpy")
_PACKAGES += ("opencv-python-headless",)
_PR_SET_PDEATHSIG = 1

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


def compete(
    contestants: dict[str, Callable],
    arguments: argparse.Namespace,
    *,
    work: int = 1,
    together: bool = False,
    keep: Callable[[list[dict]], None] = lambda found: None,
    **more,
) -> list[dict]:
    """Runs the contestants in turn, A B A B ..., `arguments.repeats` times.

    Args:
        contestants: The contestants by name.
        arguments: The arguments of the command, which are the settings of the contestants.
        work: The number of images or other units in a run.
        together: Whether they prepare at the same time, which is sooner, but changes what compiling takes.
        keep: Is given what is known so far, whenever there is something new.
        **more: Further settings.

    Returns:
        For each contestant its settings and facts, "name", "first_s", the time of its first run, "ms", the median time
        of the others, "ms_each" and "per_s", for a unit of work, and "peak_mb"; "time", "speed" and "memory" are ratios
        to the contestant whose name begins with PyTorch, or to the first one. "failed" is why a contestant failed.
    """
    settings = argparse.Namespace(**vars(arguments), **more)
    results = {name: vars(settings) | {"name": name} for name in contestants}
    times, prepared, spawn = {name: [] for name in contestants}, {}, multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        pools = {name: stack.enter_context(ProcessPoolExecutor(1, spawn)) for name in contestants}
        for name, pool in pools.items():  # one after the other: preparing must not disturb a neighbour
            prepared[name] = pool.submit(_prepare, contestants[name], settings)
            if not together:
                wait([prepared[name]])
        for future in as_completed(prepared.values()):
            name = next(name for name in prepared if prepared[name] is future)
            results[name] |= facts_of(future)
            keep(list(results.values()))
        for _, (name, result) in itertools.product(range(settings.repeats), results.items()):
            if "failed" not in result:
                result |= facts_of(pools[name].submit(_timed))
                times[name] += [1000 * result.pop("seconds")] if "failed" not in result else []
                _rate(results, times, work)
                keep(list(results.values()))
    return list(results.values())


def facts_of(future: Future) -> dict:
    """Returns the result of a process, or {"failed": its last words}."""
    try:
        return future.result()
    except Exception as error:  # a process that was killed, too
        return {"failed": "".join(traceback.format_exception(error))[-1500:]}


def _rate(results: dict[str, dict], times: dict[str, list[float]], work: int) -> None:
    """Adds medians and ratios to the results of those that have been timed."""
    timed = [result for name, result in results.items() if times[name]]
    for result in timed:
        result["ms"] = ms = statistics.median(times[result["name"]])
        result |= {"s": ms / 1000, "ms_each": ms / work, "per_s": 1000 * work / ms}
    others = [result for result in timed if result["name"].lower().startswith("pytorch")]
    for r in timed:
        other = (others or timed)[0]
        r |= {"time": r["ms"] / other["ms"], "speed": other["ms"] / r["ms"], "memory": r["peak_mb"] / other["peak_mb"]}


def die_with_parent() -> None:
    """Lets the system kill this process when the one that started it has died, however that came."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prepare(contestant: Callable, settings: argparse.Namespace) -> dict:
    global _run, _peak_mb
    die_with_parent()
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    facts = contestant(settings)
    _run, _peak_mb = facts.pop("run"), facts.pop("device_peak_mb", _process_peak_mb)
    first_s = _timed()["seconds"]
    _timed()
    # What compiling took must not count as what running takes.
    facts.pop("forget_peak", lambda: None)()
    ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):  # sandboxes that have no such file
        Path("/proc/self/clear_refs").write_text("5")
    return {"first_s": first_s} | facts


def _timed() -> dict[str, float]:
    """Returns the seconds that a run takes, and the peak memory after it, in MB."""
    start = time.perf_counter()
    _run()
    return {"seconds": time.perf_counter() - start, "peak_mb": _peak_mb()}


def _process_peak_mb() -> float:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def on_jax(run: Callable, **facts) -> dict:
    """Returns the facts of a contestant whose `run` returns arrays of JAX, for which it has to wait."""
    import jax

    device = jax.devices()[0]
    if device.platform == "gpu":
        facts["device_peak_mb"] = lambda: device.memory_stats()["peak_bytes_in_use"] / 2**20
    return facts | {"run": lambda: jax.block_until_ready(run()), "device": device.device_kind}


def torch_device() -> str:
    """Returns where contestants in PyTorch run."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def on_torch(run: Callable, **facts) -> dict:
    """Returns the facts of a contestant that runs on `torch_device`."""
    import torch

    facts |= {"run": run, "device": torch_device()}
    if torch_device() == "cuda":
        facts |= {"run": lambda: (run(), torch.cuda.synchronize()), "device": torch.cuda.get_device_name()}
        facts["device_peak_mb"] = lambda: torch.cuda.max_memory_allocated() / 2**20
        facts["forget_peak"] = torch.cuda.reset_peak_memory_stats
    return facts


def save(title: str, found: list[dict], out: str | None, **headings: str) -> list[dict]:
    """Writes rows, and what one needs to know to repeat the measurement, as JSON, and returns the rows.

    Args:
        title: The title of the table.
        found: The rows, dictionaries. What a row lacks is empty.
        out: The file, if any.
        **headings: The headings of the keys that are shown; by default all are, under their own names.
    """
    headings = headings or dict(zip(found[0], found[0], strict=True))
    rows = [{heading: facts.get(key, "") for key, heading in headings.items()} for facts in found]
    if out:
        content = {"title": title, "rows": rows, "failed": _failed(found)} | environment()
        write_text(out, json.dumps(content, indent=2) + "\n")
    return rows


def report(title: str, found: list[dict], out: str | None, **headings: str) -> None:
    """Prints a table, and what one needs to know to repeat the measurement, and writes both as `save` does.

    Ends the process with status 1 if a contestant has failed.
    """
    rows = save(title, found, out, **headings)
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*(f"{x:,.2f}" if isinstance(x, float) else str(x) for x in row.values()))
    Console(width=120).print(table)
    print(json.dumps(environment(), indent=2))
    if failed := _failed(found):
        sys.exit("\n".join(failed))


def _failed(found: list[dict]) -> list[str]:
    return [f"{facts['name']} failed: {facts['failed']}" for facts in found if "failed" in facts]


@functools.cache
def environment() -> dict:
    """Returns the versions of what takes part, the processor, the GPUs, and the command of this process."""
    versions, info = {}, Path("/proc/cpuinfo")
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    cpu = re.search(r"^model name\s*: (.*)$", info.read_text() if info.exists() else "", re.MULTILINE)
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    gpus = ""
    with contextlib.suppress(OSError):  # there is no such command
        gpus = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    module = getattr(sys.modules["__main__"].__spec__, "name", "")
    return {
        "python": platform.python_version(),
        "cpu": f"{os.cpu_count()} x {cpu[1] if cpu else platform.processor()}",
        "gpu": gpus or "none",
        "versions": versions,
        "command": " ".join(["python -m", module, *sys.argv[1:]]),
    }
