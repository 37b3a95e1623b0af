"""Fair timing: what contestants report, and what is left when one of them fails."""

import argparse
import json
import os
import time

import pytest

from benchmarks import harness
from benchmarks.hrnet_ocr import with_mfu


def fast(settings) -> dict:
    return {"run": lambda: time.sleep(0.001), "device": "fast"}


def slow(settings) -> dict:
    return {"run": lambda: time.sleep(0.03)}


def unable(settings) -> dict:
    raise ValueError("it cannot be built")


def killed_later(settings) -> dict:
    calls = []
    return {"run": lambda: calls.append(0) if len(calls) < 3 else os.abort()}


@pytest.mark.parametrize("together", [False, True])
def test_compete(tmp_path, together):
    contestants, kept = {"ours": fast, "PyTorch": slow, "unable": unable, "killed": killed_later}, []
    arguments = argparse.Namespace(repeats=3)
    found = harness.compete(
        contestants, arguments, work=2, together=together, keep=lambda x: kept.append(str(x)), size=5
    )
    ours, torch, unable_, killed = found
    assert [result["name"] for result in found] == list(contestants)
    assert torch["ms"] >= 30
    assert ours["speed"] == pytest.approx(torch["ms"] / ours["ms"])
    assert ours["speed"] > 2
    assert ours["per_s"] == pytest.approx(2000 / ours["ms"])
    assert ours["size"] == 5
    assert "it cannot be built" in unable_["failed"]
    assert "BrokenProcessPool" in killed["failed"]
    assert killed["ms"] > 0
    assert len(kept) == 4 + 3 + 3 + 2

    out = tmp_path / "found.json"
    with pytest.raises(SystemExit, match="unable failed"):
        harness.report("title", found, str(out), name="who", ms="ms")
    content = json.loads(out.read_text())
    assert [row["who"] for row in content["rows"]] == list(contestants)
    assert content["rows"][2]["ms"] == ""
    assert len(content["failed"]) == 2


def test_mfu():
    """990 TFLOP in a second are all that an H200 can do; the other contestant does the same work."""
    facts = {"dtype": "bfloat16", "device": "NVIDIA H200", "ms": 1000.0, "s": 1.0}
    ours, torch = with_mfu([facts | {"tflop": 990.0}, facts | {"ms": 2000.0, "s": 2.0}])
    assert (ours["mfu"], torch["mfu"]) == (100, 50)
    assert "mfu" not in with_mfu([facts | {"tflop": 990.0, "device": "cpu"}])[0]
    assert "mfu" not in with_mfu([facts | {"tflop": 990.0, "dtype": "float32"}])[0]
