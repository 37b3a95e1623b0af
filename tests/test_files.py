"""Files are read whole, written whole, and only where they belong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openseg_jax import files
from openseg_jax.errors import InputError, RunError


def test_what_is_no_file_or_no_text_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "long.json").write_text("9" * 5000)
    (tmp_path / "latin.txt").write_bytes(b"\xe9")
    for name in ("pipe", "", "missing", "a\0b"):
        with pytest.raises(InputError, match="cannot read"):
            files.read_bytes(tmp_path / name)
    for name in ("deep.json", "long.json"):
        with pytest.raises(InputError, match=f"{name} is not valid JSON"):
            files.read_json(tmp_path / name)
    with pytest.raises(InputError, match="not a UTF-8 text"):
        files.read_text(tmp_path / "latin.txt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_with_a_byte_order_mark_is_read(tmp_path, encoding):
    (tmp_path / "list.txt").write_text("straße.png", encoding=encoding)
    assert files.read_text(tmp_path / "list.txt") == "straße.png"


def test_a_full_disk_is_a_failed_run_and_a_wrong_place_is_wrong_input(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        files.write_text(tmp_path / "file" / "x", "")
    with pytest.raises(RunError, match=r"cannot write /dev/full.*No space left"), files.writing("/dev/full"):
        Path("/dev/full").write_text("full")
    with pytest.raises(ZeroDivisionError), files.replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text(f"half{1 / 0}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_planted_links_are_not_followed(tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match="cannot write"), files.locked(tmp_path / "lock"):
        pass
    with files.replacing(tmp_path / "x.png") as first, files.replacing(tmp_path / "x.png") as second:
        assert first != second
        first.touch(), second.touch()
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize("name", ["", "/x", "../x", "a/../../x", "a\0", "x" * 300, "..\\x"])
def test_names_from_data_stay_inside_the_folder(name):
    with pytest.raises(InputError):
        files.child("out", name, ".png")
    assert str(files.child("out", "a/b.c", ".png")) == "out/a/b.c.png"


def test_only_earlier_results_are_replaced(tmp_path):
    label, other = tmp_path / "val" / "label", tmp_path / "other"
    label.mkdir(parents=True)
    with pytest.raises(InputError, match="did not write it"), files.results(tmp_path / "val", "predict", ["label"]):
        pass
    assert [path.name for path in (tmp_path / "val").iterdir()] == ["label"]
    for _ in range(2):
        with files.results(other, "predict", ["label"]):
            (other / "label").mkdir(exist_ok=True)
            (other / "label" / ".0123456789abcdef.tmp.png").touch()
    with files.results(other, "eval", ["report.json"]):
        pass
    with pytest.raises(InputError, match="did not write it"), files.results(other, "eval", ["label"]):
        pass
    read = [other / "label" / "a.png"]
    with pytest.raises(InputError, match="which is read"), files.results(other, "predict", ["label"], read):
        pass
    with files.results(other, "predict", ["label"]):
        assert not list((other / "label").iterdir())
    for damaged in ("[]", "{", '{"predict": {"names": 3}}'):
        (other / ".openseg").write_text(damaged)
        with pytest.raises(InputError, match=".openseg is"), files.results(other, "predict", ["label"]):
            pass


def test_results_count_as_long_as_key_and_inputs_are_the_same(tmp_path):
    image, label = tmp_path / "image", tmp_path / "out" / "label"
    image.touch()
    with files.results(tmp_path / "out", "predict", ["label"], key={"long": "x" * 1000}) as first:
        label.touch()
    with files.results(tmp_path / "out", "predict", ["label"], key={"long": "x" * 1000}) as again:
        assert again == first
        assert files.is_done([label], [image], again)
        assert not files.is_done([label, tmp_path / "none"], [image], again)
    with files.results(tmp_path / "out", "predict", ["label"], key=None) as other:
        assert not files.is_done([label], [image], other)
        label.touch()
        assert files.is_done([label], [image], other)
    os.utime(image, ns=(2**62, 2**62))
    assert not files.is_done([label], [image], other)


def test_one_process_at_a_time_writes_to_a_folder(tmp_path):
    program = f"from openseg_jax import files\nwith files.results({str(tmp_path)!r}, 'eval', []): print(1)"
    with files.results(tmp_path, "predict", ["label"]):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "another process is writing" in done.stderr
    assert not done.stdout
