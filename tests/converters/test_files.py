"""Reading checkpoint files: every format of torch is read, and anything else is refused."""

import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch

from openseg_jax import converters
from openseg_jax.errors import InputError, RunError
from tests import commands

WEIGHTS = OrderedDict({"conv.weight": torch.arange(6.0).reshape(2, 3), "bn.num_batches_tracked": torch.tensor(3)})


def save(path, content, **options):
    torch.save(content, path, **options)
    return path


def assert_weights(read):
    assert list(read) == list(WEIGHTS)
    assert all(torch.equal(read[key], WEIGHTS[key]) for key in WEIGHTS)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"state_dict": w}, lambda w: {"model": w}, dict])
def test_every_wrapping_in_both_formats(tmp_path, wrap, zipped):
    path = save(tmp_path / "net.pth", wrap(WEIGHTS), _use_new_zipfile_serialization=zipped)
    assert_weights(converters.read_state_dict(path))


@pytest.mark.parametrize("zipped", [True, False])
def test_metrics_beside_the_weights_do_not_disturb(tmp_path, zipped):
    """The original stores its config with counters, some of which are numpy scalars."""
    config = {"max_performance": np.float64(0.81), "iters": 40000, "loss": np.float32(1.5), "names": ["a", None, True]}
    content = {"config_dict": config, "state_dict": WEIGHTS}
    path = save(tmp_path / "net.pth", content, _use_new_zipfile_serialization=zipped)
    assert_weights(converters.read_state_dict(path))


class Hostile:
    def __reduce__(self):
        return print, ("this must never run",)


def refused(path) -> str:
    with pytest.raises(InputError) as caught:
        converters.read_state_dict(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "FILE")


def test_code_in_a_file_is_refused_and_does_not_run(tmp_path, capsys):
    path = save(tmp_path / "net.pth", {"state_dict": WEIGHTS, "extra": Hostile()})
    assert refused(path).startswith("FILE was refused: it would run code on loading (print)")
    path.write_bytes(pickle.dumps(Hostile()))
    assert "FILE" in refused(path)
    assert capsys.readouterr().out == ""


def test_other_files_are_refused(tmp_path):
    assert refused(tmp_path / "missing.pth") == "there is no checkpoint file FILE"

    path = tmp_path / "net.pth"
    path.write_bytes(b"")
    assert refused(path) == "FILE is empty"
    path.write_text("\n<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title>")
    assert refused(path).startswith("FILE is a web page, not a checkpoint")
    path.write_bytes(b"not a checkpoint at all")
    assert refused(path) == "FILE is not a PyTorch checkpoint, or it is damaged (23 bytes)"


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_files(tmp_path, zipped):
    path = save(tmp_path / "net.pth", {"w": torch.zeros(10_000)}, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        message = refused(path)
        assert "cut short" in message if zipped else "damaged" in message


def test_files_without_a_state_dict(tmp_path):
    assert "holds a list" in refused(save(tmp_path / "a.pth", [1, 2]))
    assert "holds a Tensor" in refused(save(tmp_path / "b.pth", torch.zeros(3)))
    assert "1 of 2 entries are not tensors, such as step" in refused(
        save(tmp_path / "c.pth", {"w": torch.zeros(3), "step": 1})
    )


def test_writing_is_atomic(tmp_path, monkeypatch):
    converters.write_state_dict(WEIGHTS, tmp_path / "deep" / "net.pth")
    assert_weights(converters.read_state_dict(tmp_path / "deep" / "net.pth"))

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(RunError, match="No space left"):
        converters.write_state_dict(WEIGHTS, tmp_path / "deep" / "other.pth")
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["net.pth"]


def test_without_torch_the_package_imports_and_says_what_is_missing():
    """The wheel does not depend on PyTorch."""
    program = """
import sys
sys.modules["torch"] = None  # importing it raises ImportError
from openseg_jax import converters
from openseg_jax.errors import InputError
from tests import commands
try:
    converters.read_state_dict("net.pth")
except InputError as error:
    print(error)
"""
    assert "pip install 'openseg_jax[torch]'" in commands.run("-c", program)
