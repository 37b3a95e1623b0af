"""Damaged and invented records: samples are what was built, or one sentence names the file that is not.

`FUZZ=20 pytest tests/robustness` tries twenty times as many.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tensorflow_datasets.proto import tf_example_pb2

from openseg_jax.data import load_classes
from openseg_jax.data.building import BUILDERS, build
from openseg_jax.data.records import RecordSource
from openseg_jax.errors import InputError
from tests.data import archives
from tests.robustness import FUZZ, generator
from tests.robustness.test_archives import damaged

writer = sys.modules["openseg_jax.data.building.writer"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder of records, train with 7 samples in 4 files, and a function that builds into it again."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("records")
        expected = archives.camvid(folder / "in")
        patch.setattr(writer, "SAMPLES_PER_SHARD", 2)
        patch.setattr(BUILDERS["camvid"], "counts", {split: len(samples) for split, samples in expected.items()})

        def again() -> Path:
            return build("camvid", folder / "in", folder / "out", console=Console(quiet=True))

        again()
        yield again


def read(folder: Path) -> list[dict]:
    source = RecordSource(str(folder), "train", load_classes("camvid"))
    return [source[index] | {"size": source.size(index)} for index in range(len(source))]


def same(found: list[dict], expected: list[dict]) -> bool:
    return len(found) == len(expected) and all(
        a["name"] == b["name"]
        and a["size"] == b["size"]
        and all(np.array_equal(a[k], b[k]) for k in ("image", "label"))
        for a, b in zip(found, expected, strict=True)
    )


class Tries:
    """Puts other contents into one file of a folder of records, and counts what becomes of it."""

    def __init__(self, folder: Path, file: str):
        self.folder, self.path = folder, folder / file
        self.whole, self.expected = self.path.read_bytes(), read(folder)
        self.right = self.refused = 0

    def __call__(self, content: bytes) -> str:
        """Returns why the content was refused."""
        self.path.write_bytes(content)
        start, reason = time.monotonic(), ""
        try:
            found = read(self.folder)
        except InputError as error:
            reason = str(error)
        finally:
            self.path.write_bytes(self.whole)
        if reason:
            assert str(self.folder) in reason
            assert "\n" not in reason
        else:
            assert same(found, self.expected)
        self.refused += bool(reason)
        self.right += not reason
        assert time.monotonic() - start < 5
        return reason

    def summary(self) -> None:
        print(f"{self.right + self.refused} inputs: {self.right} right, {self.refused} refused")


@pytest.mark.parametrize("file", ["index-train.json", "dataset_info.json", "camvid-train.array_record-00001-of-00004"])
def test_damaged_files(built, file):
    tries, rng = Tries(built(), file), generator(0)
    used = tries.whole.rstrip(b"\0")
    assert tries(tries.whole) == ""
    for _ in range(80 * FUZZ):
        content = damaged(rng, used)
        tries(content + bytes(max(0, len(tries.whole) - len(content))) if "array_record" in file else content)
    tries.summary()


def test_invented_indices(built):
    tries, rng = Tries(built(), "index-train.json"), generator(1)
    names = (
        "../../x",
        "/x",
        "",
        ".",
        "..",
        "a\\b",
        "a\0b",
        "n" * 300,
        "0001TP_000001",
        "line\nbreak",
        7,
        None,
        [],
        "\ud800",
    )
    sizes = (
        None,
        [],
        [1],
        [1, 2, 3],
        "ab",
        [-1, 5],
        [0, 0],
        [10**9, 10**9],
        [1.5, 2],
        [True, True],
        {"a": 1},
        [[1], 2],
    )
    for _ in range(100 * FUZZ):
        content = json.loads(tries.whole)
        at = int(rng.integers(7))
        kind = rng.integers(6)
        if kind == 0:
            content["names"][at] = names[rng.integers(len(names))]
        elif kind == 1:
            content["sizes"][at] = sizes[rng.integers(len(sizes))]
        elif kind == 2:
            content[str(rng.choice(["names", "sizes"]))].pop(at)
        elif kind == 3:
            content[str(rng.choice(["names", "sizes"]))] = [None, 3, {}, "abcdefg"][rng.integers(4)]
        elif kind == 4:
            content["names"] = list(rng.permutation(content["names"]))
        else:
            content = [[], 3, None, "text", {}][rng.integers(5)]
        tries(json.dumps(content).encode())
    for text in (b"", b"[" * 10**5, b"\xff\xfe", b"9" * 5000):
        assert tries(text)
    tries.summary()


def test_invented_infos(built):
    tries = Tries(built(), "dataset_info.json")
    info = json.loads(tries.whole)
    lengths = [], ["1", "2", "2", "3"], ["2", "1", "2", "2"], ["-1", "8"], ["1e9"], 7, [None], ["7"]
    splits = [[info["splits"][0] | {"shardLengths": each}] for each in lengths]
    changes = [{"splits": each} for each in (*splits, [{"name": "train"}], [3], [], None)]
    for change in (*changes, {"name": "../../x"}, {"name": 3}, {"name": None}):
        assert tries(json.dumps(info | change).encode())
    assert tries(b"[]")
    tries.summary()


def test_features_are_not_followed(built, monkeypatch, tmp_path):
    """features.json names Python modules, which tfds would import."""
    folder, found = built(), tmp_path / "planted"
    text = (folder / "features.json").read_text()
    (tmp_path / "planted_module.py").write_text(f"open({str(found)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    (folder / "features.json").write_text(text.replace("tensorflow_datasets.core.features.scalar", "planted_module"))
    read(folder)
    (folder / "features.json").write_text(text)
    assert not found.exists()


def example(**values: bytes) -> bytes:
    message = tf_example_pb2.Example()
    for key, value in values.items():
        message.features.feature[key].bytes_list.value.append(value)
    return message.SerializeToString()


def test_invented_records(built):
    folder = built()
    tries = Tries(folder, "camvid-train.array_record-00000-of-00004")  # which holds one sample
    image, label = archives.encode(np.zeros((9, 8, 3), np.uint8)), archives.encode(np.zeros((9, 8), np.uint8))
    name, (height, width) = tries.expected[0]["name"].encode(), tries.expected[0]["size"]
    right = archives.encode(np.zeros((height, width, 3), np.uint8))
    for record, says in (
        (b"", "is damaged"),
        (b"no protobuf", "is damaged"),
        (example(image=image, name=name), "is damaged"),
        (example(image=image, label=label, name=name), "another name or size"),
        (example(image=right, label=label, name=name), "a mask of another size"),
        (example(image=right, label=b"", name=b"other"), "another name or size"),
        (example(image=b"no image", label=label, name=name), "is not a readable image"),
    ):
        writer.write_records(folder / "invented", [record])
        assert says in tries((folder / "invented").read_bytes())
        (folder / "invented").unlink()
    tries.summary()


def test_repair(built):
    """What the sentences advise: the same command writes what is damaged again."""
    folder = built()
    whole, expected = {path: path.read_bytes() for path in folder.iterdir()}, read(folder)
    rng = generator(3)
    for path in sorted(whole):
        if path.name not in ("LICENSE", "features.json"):
            path.write_bytes(damaged(rng, whole[path][:900]))
            assert same(read(built()), expected)
            assert path.name == "journal.jsonl" or path.read_bytes() == whole[path]


@pytest.mark.parametrize("text", ['"sizes": [[', "sha256", '"names"', "prepared", "crc"])
def test_damaged_journal(built, text):
    """A damaged line does not count, so that no wrong size or digest comes from it."""
    folder = built()
    expected, journal = read(folder), folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(text.encode(), text[:-1].encode() + b"9", 1))
    assert same(read(built()), expected)


def test_other_sources(built, monkeypatch, tmp_path):
    folder = built()
    for other in (folder.parents[2] / "in").rglob("train/*000001.png"):
        content = other.read_bytes()
        os.utime(other, ns=(0, 0))
        with pytest.raises(InputError, match="was made from all: in"):
            built()
        other.write_bytes(content)
    shutil.rmtree(folder)
    built()
    monkeypatch.setattr(writer, "__version__", "9")
    with pytest.raises(InputError, match="was made from version"):
        built()
    monkeypatch.undo()


def test_folders_that_no_build_wrote(tmp_path):
    archives.camvid(tmp_path / "in")
    mine = tmp_path / "out" / "camvid" / "1.0.0" / "dataset_info.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(InputError, match="holds dataset_info.json, which no build wrote"):
        build("camvid", tmp_path / "in", tmp_path / "out", allow_partial=True, console=Console(quiet=True))
    assert [path.name for path in mine.parent.iterdir()] == [mine.name]
    assert mine.read_text() == "mine"
