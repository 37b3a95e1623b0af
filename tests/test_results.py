"""Results are written where they belong, by one process at a time, and over nothing else."""

import os
import subprocess
import sys
import time

import pytest

from openseg_jax import results
from openseg_jax.errors import InputError


@pytest.mark.parametrize("name", ["", "/x", "../x", "a/../../x", "a\0", "x" * 300, "..\\x"])
def test_names_from_data_stay_inside_the_folder(name):
    with pytest.raises(InputError):
        results.child("out", name, ".png")
    assert str(results.child("out", "a/b.c", ".png")) == "out/a/b.c.png"


def test_only_earlier_results_are_replaced(tmp_path):
    label, other = tmp_path / "val" / "label", tmp_path / "other"
    label.mkdir(parents=True)
    with pytest.raises(InputError, match="did not write it"), results.results(tmp_path / "val", "predict", ["label"]):
        pass
    assert [path.name for path in (tmp_path / "val").iterdir()] == ["label"]
    for _ in range(2):
        with results.results(other, "predict", ["label"]):
            (other / "label").mkdir(exist_ok=True)
            (other / "label" / ".0123456789abcdef.tmp.png").touch()
    with results.results(other, "eval", ["report.json"]):
        pass
    with pytest.raises(InputError, match="did not write it"), results.results(other, "eval", ["label"]):
        pass
    read = [other / "label" / "a.png"]
    with pytest.raises(InputError, match="which is read"), results.results(other, "predict", ["label"], read):
        pass
    with results.results(other, "predict", ["label"]):
        assert not list((other / "label").iterdir())
    for damaged in ("[]", "{", '{"predict": {"names": 3}}'):
        (other / ".openseg").write_text(damaged)
        with pytest.raises(InputError, match=".openseg is"), results.results(other, "predict", ["label"]):
            pass


def test_results_count_as_long_as_key_and_inputs_are_the_same(tmp_path):
    image, label = tmp_path / "image", tmp_path / "out" / "label"
    image.touch()
    with results.results(tmp_path / "out", "predict", ["label"], key={"long": "x" * 1000}) as first:
        label.touch()
    with results.results(tmp_path / "out", "predict", ["label"], key={"long": "x" * 1000}) as again:
        assert again == first
        assert results.is_done([label], [image], again)
        assert not results.is_done([label, tmp_path / "none"], [image], again)
    time.sleep(0.02)  # ticks of the file system's clock
    with results.results(tmp_path / "out", "predict", ["label"], key=None) as other:
        assert not results.is_done([label], [image], other)
        label.touch()
        assert results.is_done([label], [image], other)
    os.utime(image, ns=(2**62, 2**62))
    assert not results.is_done([label], [image], other)


def test_one_process_at_a_time_writes_to_a_folder(tmp_path):
    program = f"from openseg_jax import results\nwith results.results({str(tmp_path)!r}, 'eval', []): print(1)"
    with results.results(tmp_path, "predict", ["label"]):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "another process is writing" in done.stderr
    assert not done.stdout
