"""Kills commands at random moments, starts them again until they end, and compares with what was never interrupted.

    python -m tests.robustness.kills --count 50
    python -m tests.robustness.kills --count 10 --seed 3 --commands train,eval

Moments are spread over the duration of an uninterrupted run, so that kills hit the start, the work and the writing.
Every fourth one takes the whole process group, as a job scheduler does. After each, no process of the command and no
shared memory may be left. The exit code is 1 if something was not as it must be.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from openseg_jax import checkpoints
from openseg_jax.data.normalize import Normalization
from tests import commands, conftest, segmented, tiny  # noqa: F401  (conftest sets what JAX reads when it starts)
from tests.data import archives
from tests.training import runs

WAIT = 30  # seconds that processes may take to end after their parent
TRAIN = {"train__steps": 12, "train__save_every": 2, "train__eval_every": 6, "train__log_every": 2, "data__workers": 2}
# What a command does seldom it does often here, so that kills hit it.
OFTEN = {
    "eval": "from openseg_jax.evaluation import progress; progress._SECONDS = 0",
    "build": "from openseg_jax.data.building import writer; writer.SAMPLES_PER_SHARD = 1",
}


@dataclasses.dataclass(frozen=True)
class Command:
    """A command. arguments: Those of `openseg` for a folder of results. results: What must be equal in that folder."""

    name: str
    arguments: Callable[[Path], list]
    results: Callable[[Path], dict[str, str]]

    def start(self, out: Path) -> subprocess.Popen:
        program = f"{OFTEN.get(self.name, '')}\nfrom openseg_jax import cli\ncli.main()"
        command = [sys.executable, "-c", program, *map(str, self.arguments(out))]
        environment = commands.environment() | {"PYTHONPATH": str(commands.ROOT)}
        with (out.parent / f"{out.name}.log").open("a") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def finish(self, out: Path) -> None:
        """Runs the command to its end."""
        process = self.start(out)
        if process.wait(600):
            raise SystemExit(f"{self.name} failed:\n{(out.parent / f'{out.name}.log').read_text()}")


# ---------------------------------------------------------------------------------------------------------------------
# The commands, and what must be equal


def make_commands(data: Path) -> list[Command]:
    """Returns the commands, on small data that it writes."""
    root, *_ = segmented.write(data / "folder")
    net = tiny.create("segfix_hrnet", backbone="resnet18")
    saved = checkpoints.Checkpoints(data / "segfix")
    saved.save(tiny.random_variables(net), checkpoints.Metadata(net.spec.to_dict(), Normalization()))
    saved.close()
    archives.camvid(data / "archives")
    config = commands.ROOT / "tests" / "training" / "config_file.py"
    places = [f"--config.data.root={root}", f"--config.data.classes={root / 'classes.json'}"]
    one = ["--config.eval.batch_size=1", f"--checkpoint={root / 'checkpoint'}"]
    images = root / "val" / "image"
    return [
        Command("train", lambda out: ["train", f"--config={config}", f"--workdir={out}", *runs.flags(TRAIN)], _run),
        Command("eval", lambda out: ["eval", "--config=folder", *places, *one, f"--out={out}"], _files),
        Command(
            "build",
            lambda out: ["data", "build", "camvid", "--allow_partial", "--workers=2",
                         f"--archives={data / 'archives'}", f"--out={out}"],
            _files,
        ),
        Command(
            "segfix",
            lambda out: ["segfix", "predict", f"--checkpoint={data / 'segfix'}", f"--images={images}", f"--out={out}"],
            _files,
        ),
        Command(
            "predict",
            lambda out: ["predict", f"--checkpoint={root / 'checkpoint'}", images, "--batch_size=1", f"--out={out}"],
            _files,
        ),
    ]  # fmt: skip


def _files(out: Path) -> dict[str, str]:
    """Digests of all files but those that tell the time or how far a run is."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_file() and path.name not in ("report.html", "journal.jsonl", ".openseg"):
            found[name] = hashlib.sha256(_timeless(path)).hexdigest()
    return found


def _timeless(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return b"".join(name.encode() + arrays[name].tobytes() for name in arrays)
    if path.name == "report.json":
        return repr({key: value for key, value in json.loads(content).items() if "second" not in key}).encode()
    return content


def _run(workdir: Path) -> dict[str, str]:
    """Digests of the arrays of both checkpoints, and the scores of all validations."""
    found = {}
    for part in ("latest", "best"):
        folder = checkpoints.find(workdir / part)
        for kind in sorted({"variables", "training"} & {path.name for path in folder.iterdir()}):
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
                tree = reader.restore(folder / kind)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
                name = f"{part}/{folder.name}/{kind}{jax.tree_util.keystr(path)}"
                found[name] = hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest()
    for line in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines()):
        for name, value in line.items():
            if name.startswith("val/"):  # the others are means since the last line, or since the start
                found[f"metrics/{line['step']}/{name}"] = str(value)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Killing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50, metavar="N", help="how many kills (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", default="train,eval,build,segfix,predict", help="which (%(default)s)")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        named = {command.name: command for command in make_commands(Path(folder, "data"))}
        return kill_all([named[name] for name in arguments.commands.split(",")], arguments.count, rng, Path(folder))


def kill_all(chosen: list[Command], count: int, rng: np.random.Generator, folder: Path) -> int:
    """Kills the commands in turn, prints a line for each kill and a summary; returns the exit code."""
    wholes = {}
    for command in chosen:
        command.finish(folder / f"{command.name}-first")  # fills the cache of compiled programs
        start = time.monotonic()
        command.finish(folder / f"{command.name}-whole")
        wholes[command.name] = time.monotonic() - start, command.results(folder / f"{command.name}-whole")
    kills, ends, faults = Counter(), Counter(), []
    for trial in range(10 * count):
        command = chosen[trial % len(chosen)]
        out, (seconds, expected) = folder / f"{command.name}-{trial}", wholes[command.name]
        for _ in range(min(rng.integers(1, 4), count - kills.total())):
            moment, group = rng.uniform(0, seconds), kills.total() % 4 == 3
            remains = killed(command, out, moment, group)
            if remains is None:
                break  # it was faster this time
            kills[command.name] += 1
            faults += remains
            how = "with its group" if group else "alone"
            print(f"{command.name:8} killed {how} after {moment:.1f} of {seconds:.1f} s: "
                  f"{'; '.join(remains) or 'nothing is left'}", flush=True)  # fmt: skip
        command.finish(out)
        found = command.results(out)
        different = sorted(name for name in found.keys() | expected if found.get(name) != expected.get(name))
        faults += [f"{command.name}: {name} differs" for name in different]
        ends[command.name] += 1
        print(f"{command.name:8} ended: {', '.join(different[:5]) + ' differ' if different else 'equal'}", flush=True)
        if kills.total() >= count:
            break
    each = ", ".join(f"{name} {kills[name]}" for name in wholes)
    print(f"{kills.total()} kills ({each}) in {ends.total()} runs: {len(faults)} faults", *faults, sep="\n")
    return 1 if faults else 0


def killed(command: Command, out: Path, moment: float, group: bool) -> list[str] | None:
    """Starts the command and kills it; returns what is left of it, or None if it had ended before."""
    before = set(os.listdir("/dev/shm"))
    process = command.start(out)
    try:
        process.wait(moment)
        return None
    except subprocess.TimeoutExpired:
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
    return left(process.pid, before)


def left(session: int, before: set[str]) -> list[str]:
    """Waits until nothing is left of a session, and returns what still is; before: /dev/shm when it started."""
    end = time.monotonic() + WAIT
    while found := _processes(session) + _segments(before):
        if time.monotonic() > end:
            return found
        time.sleep(0.1)
    return []


def _processes(session: int) -> list[str]:
    """The processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, number = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(number) == session and state != "Z":
                found.append(f"process {folder.name} is left: {(folder / 'cmdline').read_text()[:200]}")
    return found


def _segments(before: set[str]) -> list[str]:
    """The shared memory that is new, and that no process uses."""
    used = ""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            used += maps.read_text()
    return [f"/dev/shm/{name} is left" for name in os.listdir("/dev/shm") if name not in before and name not in used]


if __name__ == "__main__":
    sys.exit(main())
