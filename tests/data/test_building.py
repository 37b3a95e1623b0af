"""From tiny official archives to records and back; everything that can be wrong with archives, disks and processes."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from rich.console import Console

from openseg_jax.data import load_classes
from openseg_jax.data.building import BUILDERS
from openseg_jax.data.building import build as build_function
from openseg_jax.data.building.pickled_masks import read_masks
from openseg_jax.data.images import decode_image, decode_mask
from openseg_jax.data.records import RecordSource, is_record_root
from openseg_jax.errors import InputError
from tests.data import archives

module = sys.modules["openseg_jax.data.building.writer"]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "SAMPLES_PER_SHARD", 2)


@pytest.fixture
def expect(monkeypatch):
    """Makes the tiny archives' counts the official ones."""

    def set_counts(name: str, expected: archives.Expected) -> archives.Expected:
        monkeypatch.setattr(BUILDERS[name], "counts", {split: len(samples) for split, samples in expected.items()})
        return expected

    return set_counts


@pytest.fixture
def camvid(tmp_path, expect):
    return expect("camvid", archives.camvid(tmp_path / "in"))


def build(name: str, folder: Path, **options) -> Path:
    return build_function(name, folder / "in", folder / "out", console=Console(quiet=True), **options)


def refused(function, *arguments, **options) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "journal.jsonl"}


def assert_holds(folder: Path, table: str, expected: archives.Expected) -> None:
    classes = load_classes(table)
    for split, samples in expected.items():
        source = RecordSource(str(folder), split, classes)
        assert source.names == sorted(samples)
        assert len(source) == len(samples)
        for index, name in enumerate(source.names):
            image, mask = samples[name]
            sample = source[index]
            np.testing.assert_array_equal(sample["image"], decode_image(image, name))
            assert sample["name"] == name
            assert source.size(index) == sample["image"].shape[:2]
            assert ("label" in sample) == (mask is not None)
            if mask is not None:
                np.testing.assert_array_equal(sample["label"], classes.encode(mask, name))


# ---------------------------------------------------------------------------------------------------------------------
# What is built


@pytest.mark.parametrize("name", BUILDERS)
def test_every_builder(name, tmp_path, expect):
    expected = expect(name, archives.WRITERS[name](tmp_path / "in"))
    folder = build(name, tmp_path)
    assert folder == tmp_path / "out" / name / "1.0.0"
    assert_holds(folder, BUILDERS[name].table, expected)
    assert set(tfds.builder_from_directory(folder).info.splits) == set(expected)
    assert not list(folder.glob(".*.tmp*"))
    assert not (folder / "unpacked").exists()


def test_context_from_459_labels(tmp_path, expect):
    expected = expect("pascal_context", archives.pascal_context(tmp_path / "in", "mat"))
    assert_holds(build("pascal_context", tmp_path), "pascal_context_60", expected)


def test_unpacked_archives(tmp_path, expect):
    expected = expect("lip", archives.lip(tmp_path))
    for file in tmp_path.glob("*.zip"):
        with zipfile.ZipFile(file) as archive:
            archive.extractall(tmp_path / "in" / file.stem)
    # One of the two zips inside is unpacked too; the files then are found without it.
    annotations = tmp_path / "in/TrainVal_parsing_annotations/TrainVal_parsing_annotations"
    with zipfile.ZipFile(annotations / "TrainVal_parsing_annotations.zip") as archive:
        archive.extractall(annotations)
    assert_holds(build("lip", tmp_path), "lip", expected)


def test_prepared_folders(tmp_path, expect):
    expected = expect("pascal_voc", archives.pascal_voc(tmp_path / "elsewhere"))
    for split, samples in expected.items():
        for name, (image, mask) in samples.items():
            files = {f"{split}/image/{name}.jpg": image, f"{split}/label/{name}.png": archives.encode(mask, mode="P")}
            archives.pack(tmp_path / "in", files)
    assert_holds(build("pascal_voc", tmp_path, from_prepared=True), "pascal_voc", expected)


def test_files_are_stored_as_they_are(tmp_path, expect):
    expected = expect("mapillary", archives.mapillary(tmp_path / "in"))
    source = tfds.builder_from_directory(build("mapillary", tmp_path)).as_data_source(
        "train", decoders={"image": tfds.decode.SkipDecoding()}
    )
    image, mask = expected["train"]["x-train"]
    with zipfile.ZipFile(tmp_path / "in" / "mapillary-vistas-dataset_public_v1.2.zip") as archive:
        label = archive.read("training/labels/x-train.png")
    assert source[0] == {"image": image, "label": label, "name": b"x-train"}
    np.testing.assert_array_equal(decode_mask(label, "label"), mask)


def test_workers_change_nothing(tmp_path, camvid):
    one = contents(build("camvid", tmp_path))
    assert "camvid-train.array_record-00003-of-00004" in one
    two = build_function("camvid", tmp_path / "in", tmp_path / "two", workers=2, console=Console(quiet=True))
    assert contents(two) == one


def test_tfds_builds_the_same(tmp_path, camvid):
    builder = BUILDERS["camvid"](data_dir=tmp_path / "out", file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / "in"))
    names = {str(sample["name"], "utf-8") for sample in builder.as_data_source("train")}
    assert names == set(camvid["train"])


def test_records_are_for_workers(tmp_path, camvid):
    source = RecordSource(str(build("camvid", tmp_path).parent), "train", load_classes("camvid"))
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[3]["label"], source[3]["label"])
    assert len(pickle.dumps(source)) < 4000
    assert "has no split 'trainval': it has test, train, val" in refused(
        RecordSource, source.root, "trainval", source.classes
    )


def test_summary(tmp_path, camvid):
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: SIM115
    build_function("camvid", tmp_path / "in", tmp_path / "out", console=console)
    console.file.close()
    assert "train │ 7       │ 4" in console.export_text()


# ---------------------------------------------------------------------------------------------------------------------
# Archives that are not as they must be


def test_missing_archives(tmp_path):
    archives.cityscapes(tmp_path / "in")
    (tmp_path / "in" / "gtFine_trainvaltest.zip").unlink()
    message = refused(build, "cityscapes", tmp_path)
    assert "does not hold gtFine_trainvaltest.zip or gtFine/, which cityscapes needs: after registration" in message
    assert not (tmp_path / "out" / "cityscapes" / "1.0.0").exists()
    archives.pascal_context(tmp_path / "in", "neither")
    assert "does not hold train.pth and val.pth or trainval.tar.gz" in refused(build, "pascal_context", tmp_path)
    assert "there is no builder 'imagenet'" in refused(build, "imagenet", tmp_path)


def test_missing_city(tmp_path, expect):
    expect("cityscapes", archives.cityscapes(tmp_path, coarse=False))
    archives.cityscapes(tmp_path / "in", cities=("aachen",), coarse=False)
    message = refused(build, "cityscapes", tmp_path)
    assert "train has 2 of 4 samples; val has 2 of 4 samples; test has 2 of 4 samples: complete it" in message
    assert (
        len(RecordSource(str(build("cityscapes", tmp_path, allow_partial=True)), "val", load_classes("cityscapes")))
        == 2
    )


def test_image_without_label(tmp_path, camvid):
    (tmp_path / "in/CamVid/trainannot/0001TP_000003.png").unlink()
    (tmp_path / "in/CamVid/val/0001TP_000001.png").unlink()
    message = refused(build, "camvid", tmp_path)
    assert "train has 1 images without a label, such as 0001TP_000003; train has 6 of 7 samples" in message
    assert "val has 1 labels without an image, such as 0001TP_000001" in message


def test_damaged_archives(tmp_path, expect):
    expect("ade20k", archives.ade20k(tmp_path / "in"))
    path = tmp_path / "in" / "ADEChallengeData2016.zip"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "ADEChallengeData2016.zip is damaged or truncated" in refused(build, "ade20k", tmp_path)
    path.write_bytes(whole[:300] + b"damaged" + whole[307:])  # inside the first file
    message = refused(build, "ade20k", tmp_path)
    assert "ADE_train_00000000.jpg is damaged or truncated" in message
    tar = tmp_path / "in" / "VOCtrainval_11-May-2012.tar"
    expect("pascal_voc", archives.pascal_voc(tmp_path / "in"))
    tar.write_bytes(tar.read_bytes()[:2000])
    assert "VOCtrainval_11-May-2012.tar is damaged or truncated" in refused(build, "pascal_voc", tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train/0001TP_000002.png", b"\x89PNG no more", "0001TP_000002.png is not a readable image"),
        ("trainannot/0001TP_000002.png", b"\x89PNG no more", "0001TP_000002.png is not a readable mask"),
        ("trainannot/0001TP_000002.png", np.full((20, 20), 99, np.uint8), "contains the ids 99, which CamVid"),
        ("valannot/0001TP_000000.png", np.zeros((9, 9), np.uint8), "is 9x9 (height x width), its image is "),
    ],
)
def test_damaged_files(tmp_path, camvid, file, content, message):
    content = content if isinstance(content, bytes) else archives.encode(content)
    (tmp_path / "in" / "CamVid" / file).write_bytes(content)
    assert message in refused(build, "camvid", tmp_path)


def test_masks_in_pickles(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'harm'}",)

    path = tmp_path / "train.pth"
    path.write_bytes(pickle.dumps({2008000008: Attack()}))
    assert "calls posix.system, which no mask needs" in refused(read_masks, path)
    assert not (tmp_path / "harm").exists()
    path.write_bytes(pickle.dumps({"state_dict": 3}))
    assert "is not a file of masks of PyTorch-Encoding" in refused(read_masks, path)
    mask = np.arange(6, dtype=np.uint8).reshape(2, 3)
    pickled = pickle.dumps({2008000008: archives.Image.fromarray(mask)}, protocol=2)
    archives.pack(tmp_path / "new.zip", {"train/data.pkl": pickled, "train/version": b"3"})  # torch since 1.6
    np.testing.assert_array_equal(decode_mask(read_masks(tmp_path / "new.zip")[2008000008], "mask"), mask)


# ---------------------------------------------------------------------------------------------------------------------
# Builds that are interrupted


def test_full_disk(tmp_path, camvid, monkeypatch):
    def write_nothing(path, records):
        path.write_bytes(b"as far as it went")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_records", write_nothing)
        assert "1.0.0 is full: make room and run the same command again" in refused(build, "camvid", tmp_path)
    assert [path.name for path in (tmp_path / "out/camvid/1.0.0").iterdir()] == ["journal.jsonl"]
    assert_holds(build("camvid", tmp_path), "camvid", camvid)


KILLED = """
import os, pathlib, signal, sys
from rich.console import Console
import openseg_jax.data.building.writer
module = sys.modules["openseg_jax.data.building.writer"]
module.SAMPLES_PER_SHARD = 2
module.BUILDERS["camvid"].counts = {}
replace = os.replace
def replace_twice(source, target, done=[]):
    if len(done) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(replace(source, target))
os.replace = replace_twice
module.build("camvid", pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), console=Console(quiet=True))
"""


def test_killed_build_goes_on(tmp_path, camvid):
    whole = contents(build_function("camvid", tmp_path / "in", tmp_path / "whole", console=Console(quiet=True)))
    command = [sys.executable, "-c", KILLED, tmp_path / "in", tmp_path / "out"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    folder = tmp_path / "out" / "camvid" / "1.0.0"
    assert len(list(folder.glob("*array_record*"))) == 3  # two, and the third under its temporary name
    assert is_record_root(str(folder.parent))
    assert "is not complete: run the build command again" in refused(
        RecordSource, str(folder.parent), "train", load_classes("camvid")
    )
    kept, damaged, *_ = sorted(folder.glob("camvid*array_record*-of-00004"))
    before = kept.stat().st_mtime_ns
    damaged.write_bytes(b"not what the journal says")
    assert contents(build("camvid", tmp_path)) == whole
    assert kept.stat().st_mtime_ns == before
    kept.unlink()
    assert "lacks 1 files, such as camvid-train" in refused(RecordSource, str(folder), "train", load_classes("camvid"))


def test_other_archives(tmp_path, camvid, monkeypatch):
    build("camvid", tmp_path)
    with module.Journal(tmp_path / "out/camvid/1.0.0"):
        assert "another build is writing to" in refused(build, "camvid", tmp_path)
    archives.pack(tmp_path / "in", {"CamVid/notes.txt": b"more"})
    assert "1.0.0 was made from all: in (20 files, " in refused(build, "camvid", tmp_path)
