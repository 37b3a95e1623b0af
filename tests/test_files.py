"""Files are read whole, written whole, and only where they belong."""

import os
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
