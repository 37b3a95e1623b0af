"""Runs jobs one after the other until the time is up, and keeps every number as soon as there is one.

`results.json` is {"jobs": {name: record}}; a record has "status", "command", "seconds", "result", which is the JSON of
the benchmark as far as it came, and "failed", the last words of a job that did. "status" is "done", "failed", "cut" if
the job had no time to end, "running", or why it was not begun. Every file of it that was ever there is valid JSON.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import harness
from benchmarks.gpu.jobs import Job
from openseg_jax.errors import InputError
from openseg_jax.files import read_json, write_text

ROOT = Path(__file__).parents[2]
_TAIL = 1500  # characters of a job's last words
_MARGIN = 5  # seconds for ending

# JAX takes memory as it needs it, and no more than leaves room for PyTorch. A job runs the programs that an earlier one
# has compiled, but none of an earlier run: compile times are of a machine that knows nothing yet.
_ENVIRONMENT = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "PYTHONUNBUFFERED": "1",
}

_TINY = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # compiles sooner


class Results:
    """The records of the jobs in a folder. What is there already stays."""

    def __init__(self, folder: Path):
        self._file = folder / "results.json"
        self.jobs: dict[str, dict] = read_json(self._file)["jobs"] if self._file.exists() else {}

    def begin(self, name: str, command: str) -> None:
        """Makes the record of a job that runs now; the result of an earlier attempt stays until there is a new one."""
        self.jobs[name] = {key: value for key, value in self.jobs.get(name, {}).items() if key == "result"}
        self.put(name, status="running", command=command)

    def skip(self, name: str, why: str) -> None:
        """Says why a job is not begun, unless an earlier attempt has left a result."""
        if "result" not in self.jobs.get(name, {}):
            self.put(name, status=f"not begun: {why}")

    def put(self, name: str, **values) -> None:
        """Adds to the record of a job, on disk too."""
        self.jobs.setdefault(name, {}).update(values)
        write_text(self._file, json.dumps({"jobs": self.jobs}, indent=1) + "\n")


def run(jobs: Sequence[Job], out: Path, minutes: float, *, tiny: bool = False, camvid: str | None = None) -> Results:
    """Runs those of the jobs that are not done yet, as far as the time goes; SIGTERM ends it."""
    start, results = time.monotonic(), Results(out)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    with tempfile.TemporaryDirectory() as scratch:
        for job in jobs:
            left = start + 60 * minutes - _MARGIN - time.monotonic()
            if results.jobs.get(job.name, {}).get("status") == "done":
                continue
            if job.needs_camvid and not camvid:
                results.skip(job.name, "--camvid gives no folder")
            elif left < (1 if tiny else job.seconds):
                results.skip(job.name, "no time left")
            else:
                command, flags = (job.tiny, _TINY) if tiny else (job.command, {})
                results.begin(job.name, "python -m " + command.format(out="OUT", camvid="CAMVID"))
                words = shlex.split(command.format(out=shlex.quote(str(out)), camvid=shlex.quote(str(camvid))))
                _run_job(job, words, flags, Path(scratch), out, results, min(left, 2 * job.seconds))
            print(f"{time.monotonic() - start:5.0f} s  {_line(job, results)}", flush=True)
    return results


def _line(job: Job, results: Results) -> str:
    record = results.jobs[job.name]
    return f"{job.name}: {record['status']}" + (f" after {record['seconds']:.0f} s" if "seconds" in record else "")


def _run_job(
    job: Job, words: list[str], flags: dict[str, str], scratch: Path, out: Path, results: Results, seconds: float
) -> None:
    """Runs a job for some seconds at most, and keeps what it has written whenever that changes."""
    file, log, start = scratch / f"{job.name}.json", out / "log.txt", time.monotonic()
    caches = {"JAX_COMPILATION_CACHE_DIR": str(scratch / "jax"), "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor")}
    with open(log, "a") as output:
        output.write(f"\n===== {job.name}\n")
        output.flush()
        begin = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", *words, "--out", str(file)],
            cwd=ROOT,
            env=_ENVIRONMENT | flags | os.environ | caches,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=harness.die_with_parent,
        )
    status, seen = "cut", None
    try:
        while time.monotonic() - start < seconds:
            ended = process.poll() is not None
            seen = _keep(job, file, seen, results)
            if ended:
                status = "failed" if process.returncode else "done"
                break
            time.sleep(0.2)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        _keep(job, file, seen, results)
        record = {"status": status, "seconds": time.monotonic() - start}
        if status != "done":
            record["failed"] = log.read_bytes()[begin:].decode(errors="replace")[-_TAIL:]
        results.put(job.name, **record)


def _keep(job: Job, file: Path, seen: int | None, results: Results) -> int | None:
    """Keeps the result of a job if its file has changed since it was `seen`, and returns when that was."""
    if not file.exists() or file.stat().st_mtime_ns == seen:
        return seen
    seen = file.stat().st_mtime_ns
    results.put(job.name, result=read_json(file))
    return seen


def records(folders: Sequence[Path]) -> dict[str, dict]:
    """Returns the records of all jobs of these folders. A later folder replaces what an earlier one has less of."""
    found: dict[str, dict] = {}
    for folder in folders:
        if not (folder / "results.json").exists():
            raise InputError(f"{folder} has no results.json: give the --out of python -m benchmarks.gpu")
        for name, record in Results(folder).jobs.items():
            if "result" in record or "result" not in found.get(name, {}):
                found[name] = record
    return found
