"""Programs compiled for GPUs that are not there: what they may cost."""

import json

import jax
import numpy as np
import pytest

from openseg_jax import compiled
from openseg_jax.config import typed
from openseg_jax.errors import InputError
from openseg_jax.training.memory import estimate_memory
from openseg_jax.training.setup import make_run
from tests import commands
from tests.training import runs

pytestmark = pytest.mark.skipif(
    not compiled.installed(), reason="the compiler for GPUs is not installed: openseg_jax[gpu-compile]"
)

# The most that a training step of TINY may have on 1 and on 4 devices, some percent above what it has.
BOUNDS = {
    1: {"kernels": 890, "copies": 70, "other_convolutions": 0, "all-reduce": 0},
    4: {"kernels": 1230, "copies": 64, "other_convolutions": 0, "all-reduce": 4, "all-gather": 80, "all-to-all": 0},
}
# An HRNet with OCR whose layers are wide enough for the tiles of matrix products.
OPTIONS = {"width": 8, "layer1_width": 16, "channels": 32, "key_channels": 16, "aux_channels": 32}
TINY = {"augment__crop": (64, 64), "model__dtype": "bfloat16"} | {f"model__options__{k}": v for k, v in OPTIONS.items()}


@pytest.fixture(autouse=True)
def as_for_users(monkeypatch):
    """Without the flags that make the other tests compile fast."""
    monkeypatch.setenv("XLA_FLAGS", "")


@pytest.mark.parametrize("devices", BOUNDS)
def test_a_training_step_stays_within_bounds(devices):
    config = typed(runs.config("hrnet_w48_ocr", **TINY))
    found = compiled.compile_program(config, "train", devices=devices)
    over = {key: (found[key], most) for key, most in BOUNDS[devices].items() if found[key] > most}
    assert not over, f"found and allowed: {over}"
    assert found["cudnn_convolutions"] > 100
    assert found["flops"] == pytest.approx(1.729e9 / devices, rel=0.02)
    step = make_run(config).step
    batch = {"image": ((8, 64, 64, 3), np.uint8), "label": ((8, 64, 64), np.uint8), "box": ((8, 4), np.int32)}
    estimate = estimate_memory(step, {key: jax.ShapeDtypeStruct(*x) for key, x in batch.items()}, devices)
    assert estimate.total == pytest.approx(found["peak_memory"], rel=0.25)


def test_the_command_compares_two_programs(tmp_path):
    """Evaluation in float32, then in bfloat16."""
    config = f"runs.config('hrnet_w48_ocr', **{TINY | {'model__dtype': 'float32'}})"
    (tmp_path / "mine.py").write_text(f"from tests.training import runs\n\n\ndef get_config():\n    return {config}\n")
    wide, narrow = tmp_path / "wide.json", tmp_path / "narrow.json"
    base = ["-m", "benchmarks.compile_for_gpu", "eval", f"--config={tmp_path / 'mine.py'}", "--batch=2"]
    for more in ([f"--out={wide}"], ["--config.model.dtype=bfloat16", f"--out={narrow}", f"--against={wide}"]):
        commands.run(*base, "--height=64", "--width=96", *more)
    rows = {row["what"]: row for row in json.loads(narrow.read_text())["rows"]}
    assert rows["convolutions outside cuDNN"]["now"] == 0
    assert rows["read, GB"]["now"] < rows["read, GB"]["before"]
    assert rows["at peak, ms"]["change"].startswith("-")


def test_refinement_is_one_kernel():
    config = typed(runs.config("hrnet_w48_ocr", **TINY))
    found = compiled.compile_program(config, "refine", devices=2, size=(64, 96))
    assert (found["kernels"], found["all-gather"]) == (1, 0)


def test_what_is_wrong_is_one_sentence():
    config = typed(runs.config("hrnet_w48_ocr", **TINY))
    with pytest.raises(InputError, match=r"^the target is one of h100, h200, found b200$"):
        compiled.compile_program(config, "train", target="b200")
    with pytest.raises(InputError, match=r"^train.batch_size of 8 cannot be spread evenly over 3 devices"):
        compiled.compile_program(config, "train", devices=3)
