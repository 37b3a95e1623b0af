"""`python -m benchmarks.gpu` runs on a CPU, too, loses nothing that it has, and writes its section of the docs."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

from benchmarks.gpu import report
from benchmarks.gpu.__main__ import main, parse
from benchmarks.gpu.jobs import JOBS, Job
from benchmarks.gpu.running import ROOT, records, run
from openseg_jax.errors import InputError
from openseg_jax.files import read_json

FAKE = "tests.benchmarks.fake_job"


@pytest.fixture(autouse=True)
def same_handler():
    """`run` is for a process of its own, which SIGTERM ends."""
    previous = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, previous)


def job(name: str, arguments: str = "", seconds: int = 15) -> Job:
    return Job(name, seconds, f"{FAKE} {arguments}", "")


def statuses(results) -> dict[str, str]:
    return {name: record["status"] for name, record in results.jobs.items()}


def test_tiny_jobs(tmp_path):
    """The cheapest of the real jobs, through the command line. `make gpu TINY=--tiny` runs all of them."""
    names = ["device", "kernels", "camvid", *(["loss"] if find_spec("torch") else [])]
    assert main(["--tiny", "--out", str(tmp_path), "--only", *names]) == 0
    found = read_json(tmp_path / "results.json")["jobs"]
    assert {name: record["status"] for name, record in found.items()} == {
        **dict.fromkeys(names, "done"),
        "camvid": "not begun: --camvid gives no folder",
    }
    kernels = found["kernels"]["result"]["rows"]
    assert kernels[0]["kernel"] == "all kernels"
    assert len(kernels) == 21
    assert 0 < sum(row["share, %"] for row in kernels[1:]) <= 100
    assert found["kernels"]["command"].endswith("--trace OUT/train.xplane.pb.gz")
    if "loss" in names:
        assert [row["who"] for row in found["loss"]["result"]["rows"]] == ["whole", "bands", "pytorch"]
        assert all(row["ms"] > 0 for row in found["loss"]["result"]["rows"])
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "log.txt", "train.xplane.pb.gz"}


def test_every_job_is_a_command_with_both_sizes():
    for name, seconds, *commands in JOBS:
        modules = {command.split()[0] for command in commands}
        assert len(modules) == 1, name
        assert (ROOT / f"{modules.pop().replace('.', '/')}.py").exists(), name
        assert 0 < seconds < 600


def test_what_fails_and_what_has_no_time(tmp_path):
    jobs = [
        job("good"),
        job("bad", "--end 3"),
        job("slow", "--pause 60", seconds=3),
        job("long", seconds=10_000),
        job("last"),
    ]
    results = run(jobs, tmp_path, 1)
    assert statuses(results) == {
        "good": "done", "bad": "failed", "slow": "cut", "long": "not begun: no time left", "last": "done"
    }  # fmt: skip
    assert results.jobs["bad"]["failed"] == "last words\n"
    assert len(results.jobs["bad"]["result"]["rows"]) == 3
    assert len(results.jobs["slow"]["result"]["rows"]) == 1
    assert read_json(tmp_path / "results.json")["jobs"] == results.jobs

    log = (tmp_path / "log.txt").read_text()
    again = run(jobs[:2], tmp_path, 1)
    assert statuses(again) == statuses(results)
    assert (tmp_path / "log.txt").read_text().removeprefix(log).split() == ["=====", "bad", "last", "words"]


@pytest.mark.parametrize(("how", "status"), [(signal.SIGTERM, "cut"), (signal.SIGKILL, "running")])
def test_numbers_outlive_the_command(tmp_path, how, status):
    pid = tmp_path / "pid"
    code = f"""
from pathlib import Path
from benchmarks.gpu.jobs import Job
from benchmarks.gpu.running import run
jobs = [Job("first", 1, "{FAKE}", ""), Job("second", 100, "{FAKE} --numbers 1000 --pause 0.1 --pid {pid}", "")]
run(jobs, Path({str(tmp_path)!r}), 10)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL)
    wait_for(lambda: len(jobs(tmp_path).get("second", {}).get("result", {}).get("rows", [])) >= 3)
    process.send_signal(how)
    process.wait(10)
    found = jobs(tmp_path)
    assert found["first"]["status"] == "done"
    assert found["second"]["status"] == status
    assert len(found["second"]["result"]["rows"]) >= 3
    wait_for(lambda: not alive(int(pid.read_text())))


def jobs(folder) -> dict:
    file = folder / "results.json"
    return json.loads(file.read_text())["jobs"] if file.exists() else {}  # which is whole whenever it is read


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"  # of one that nobody waits for, in a container
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_for(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_report(tmp_path):
    page, out = tmp_path / "page.md", tmp_path / "out"
    result = {
        "title": "steps",
        "rows": [{"who": "a|b", "ms": 1234.5, "MFU": ""}, {"who": "c", "ms": 0.1234, "MFU": ""}],
    }
    result |= {"gpu": "NVIDIA H200, 143771 MiB, 580", "cpu": "16 x A", "python": "3.12", "versions": {"jax": "0.11.2"}}
    train = {"status": "cut", "command": "python -m benchmarks.hrnet_ocr", "result": result}
    out.mkdir()
    (out / "results.json").write_text(json.dumps({"jobs": {"train": train, "loss": {"status": "not begun: no time"}}}))
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for _ in range(2):
        assert main(["--report", str(out), "--page", str(page)]) is None
    assert (
        page.read_text()
        == f"""before
{report.BEGIN}

GPU: NVIDIA H200, 143771 MiB, 580. CPU: 16 x A. Python 3.12, jax 0.11.2.

**steps**, by `python -m benchmarks.hrnet_ocr`; it had no time to end:

| who | ms |
|---|---|
| a\\|b | 1,234 |
| c | 0.12 |

Not measured: `loss` (not begun: no time).

{report.END}
after
"""
    )
    page.write_text("no marks")
    with pytest.raises(InputError, match="does not have the lines"):
        main(["--report", str(out), "--page", str(page)])
    with pytest.raises(InputError, match=r"has no results\.json"):
        records([tmp_path])
    with pytest.raises(InputError, match="--out is missing"):
        main([])


def test_a_later_folder_adds_to_an_earlier_one(tmp_path):
    """As where a machine is lent twice."""
    for name, found in {"a": {"train": {"result": 1}, "loss": {}}, "b": {"train": {}, "loss": {"result": 2}}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps({"jobs": found}))
    assert records([tmp_path / "a", tmp_path / "b"]) == {"train": {"result": 1}, "loss": {"result": 2}}


def test_the_page_has_the_marks():
    assert report.BEGIN in parse([]).page.read_text().partition(report.END)[0]
