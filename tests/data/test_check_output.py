"""What the data check says, and where."""

import json
import re
import shlex
import shutil

import numpy as np
import pytest

from openseg_jax.cli import main
from openseg_jax.config import AugmentSettings, CollateSettings, DataSettings
from openseg_jax.console import Console
from openseg_jax.data import check_before_training, load_classes
from openseg_jax.data.check import quick_check
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable
from tests.data.streets import load
from tests.data.test_check import black_and_white, class_colors, ids_with_gaps, one_stray_pixel


def check(*arguments) -> int:
    """Runs `openseg data check`; errors are raised."""
    with pytest.raises((SystemExit, InputError)) as caught:
        main(["data", "check", "--verbose", *arguments])
    if isinstance(caught.value, InputError):
        raise caught.value
    return caught.value.code


def test_quick_reads_all_headers_but_few_pixels(data):
    for index in range(40):
        shutil.copy(data.images()[0], data.root / "train" / "image" / f"copy{index}.jpg")
        shutil.copy(data.masks()[0], data.root / "train" / "label" / f"copy{index}.png")
    report = data.check(quick=True)
    assert sum(bool(s.mask.ids) for s in report.scan.splits["train"]) == 32
    assert report.ok
    truncated = data.masks()[1]  # between the samples that are read
    truncated.write_bytes(truncated.read_bytes()[:-40])
    load(data.masks()[3]).convert("RGB").save(data.masks()[3])
    assert [fault.kind for fault in data.check(quick=True).faults] == ["color_mask"]


def test_quick_check_raises_one_sentence(data):
    (data.root / "classes.json").write_text(json.dumps(data.table))
    one_stray_pixel(data)
    with pytest.raises(InputError) as caught:
        quick_check(data.root, ["train", "val"], ClassTable.from_dict(data.table, "table"))
    message = str(caught.value)
    assert message.startswith("1 masks have the ids 77")
    assert "such as train/label/00.png" in message
    assert message.endswith(f"`openseg data check {data.root}`")


@pytest.mark.filterwarnings("ignore:the load_module")  # ml_collections' way to load a config
def test_command(data, tmp_path, capsys):
    (data.root / "classes.json").write_text(json.dumps(data.table))
    assert check(data.root) == 0
    assert "errors: 0, warnings: 0; samples: 16 in train, 12 in val; all pixels read" in capsys.readouterr().out
    one_stray_pixel(data)
    assert check(data.root, "--quick", "--out", tmp_path / "out") == 1
    shown = capsys.readouterr().out
    assert "unknown_id" in shown
    assert "errors: 1" in shown
    assert check("configs/folder.py:hrnet_w18_small_v1_ocr", f"--config.data.root={data.root}") == 1
    assert check("configs/folder.py", f"--config.data.root={data.root}", "--classes", "mapillary") == 1
    for arguments, says in (
        ([tmp_path / "nothing"], "there is no folder"),
        ([tmp_path / "out"], "holds no SPLIT/image"),
        (["configs/folder.py"], "give --config.data.root=ROOT"),
        (["configs/synthetic.py"], "does not read a folder"),
        (["configs/nothing.py"], "there is no config file configs/nothing.py"),
        ([data.root, "--config.seed=3"], "changes a config, but"),
        ([data.root, "--classes", "nothing"], "there is no class table 'nothing'"),
    ):
        with pytest.raises(InputError, match=says):
            check(*arguments)


def test_files_that_it_writes(data, tmp_path):
    data.table["classes"][1]["name"] = "house <&>"
    one_stray_pixel(data)
    data.check().write(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["check.html", "check.json"]
    content = json.loads((tmp_path / "out" / "check.json").read_text())
    assert not content["ok"]
    assert content["faults"][0]["kind"] == "unknown_id"
    assert content["faults"][0]["examples"] == ["train/label/00.png"]
    assert content["samples"] == {"train": 16, "val": 12}
    pixels = sum(int((np.asarray(load(path)) == 2).sum()) for path in data.masks("val"))
    assert content["pixels"]["val"]["road"] == pixels
    page = (tmp_path / "out" / "check.html").read_text()
    assert "unknown_id" in page
    assert "house &lt;&amp;&gt;" in page
    assert "house <&>" not in page
    assert page.count("data:image/jpeg;base64,") == 12
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("spoil", [lambda data: None, ids_with_gaps, class_colors, black_and_white])
def test_no_class_table(data, capsys, spoil):
    """What is printed is a class table that fits the masks."""
    spoil(data)
    with pytest.raises(InputError, match=r"there is no class table for .* save what stands above as .*classes.yaml"):
        check(data.root)
    (data.root / "classes.yaml").write_text(capsys.readouterr().out)
    assert check(data.root) == 0


CLASSES = "[/]", "[bold]x[/bold]", "<b>&amp;", "$x_{$" + "x" * 190, "trailing\\"
FILES = "[b]", "\u202eright", "caf\udce9"


def test_names_are_shown_as_text(data, tmp_path, capsys):
    """Names that mean something to rich, to HTML or to a terminal, of files, classes and splits."""
    for row, name in zip(data.table["classes"], CLASSES, strict=True):
        row["name"] = name
    data.table["title"] = "[red]title[/]"
    one_stray_pixel(data)
    mask = data.masks()[0].read_bytes()
    for name in FILES:
        for path, content in ((f"image/{name}.jpg", b"no image"), (f"label/{name}.png", mask)):
            (data.root / "train" / path).write_bytes(content)
    (data.root / "val").rename(data.root / "[i]val")
    report = data.check(("train", "[i]val"))
    report.print(Console(width=200))
    shown = capsys.readouterr().out
    for text in ("[red]title[/]", *CLASSES[:3], "[b].jpg", r"\u202eright.jpg", r"caf\udce9.jpg", "12 in [i]val"):
        assert text in shown
    shown.encode()
    report.write(tmp_path / "out")
    page = (tmp_path / "out" / "check.html").read_text()
    assert "<b>&amp;" not in page
    assert "&lt;b&gt;&amp;amp;" in page
    faults = json.loads((tmp_path / "out" / "check.json").read_text())["faults"]
    assert rf"train/image/{FILES[0]}.jpg" in faults[0]["examples"]


def test_command_that_lists_all_faults(data):
    """It names the folders and the table that training has."""
    one_stray_pixel(data)
    for split in ("train", "val"):
        (data.root / split / "label").rename(data.root / split / "my labels")
    table = data.root / "my table.json"
    table.write_text(json.dumps(data.table))
    settings = DataSettings(root=str(data.root), label_folder="my labels", classes=str(table))
    with pytest.raises(InputError) as caught:
        check_before_training(settings, load_classes(str(table)), AugmentSettings())
    command = re.search("`openseg data (.*)`", str(caught.value))[1]
    assert check(*shlex.split(command)[1:]) == 1


def test_train_is_val(data):
    settings = DataSettings(root=str(data.root), val_split="train")
    with pytest.raises(InputError, match="data.train_split and data.val_split are both 'train'"):
        check_before_training(settings, ClassTable.from_dict(data.table, "table"), AugmentSettings())
    shutil.rmtree(data.root / "val")
    (data.root / "val").symlink_to(data.root / "train")
    assert [(fault.kind, fault.count) for fault in data.check(quick=True).faults] == [("duplicate", 16)]


@pytest.mark.parametrize(("crop", "share"), [((64, 64), None), ((256, 256), None), ((512, 512), "4.")])
def test_crops_that_are_padding(data, capsys, monkeypatch, crop, share):
    """The images have 72x96 pixels."""
    monkeypatch.setattr("openseg_jax.data.images._warned", set())
    (data.root / "classes.json").write_text(json.dumps(data.table))
    classes, settings = ClassTable.from_dict(data.table, "table"), DataSettings(root=str(data.root))
    scaled = AugmentSettings(crop=crop, collate=CollateSettings(align="scale_and_pad"))
    check_before_training(settings, classes, scaled)
    assert "images fill" not in capsys.readouterr().err
    check_before_training(settings, classes, AugmentSettings(crop=crop))
    assert (f"images fill {share}" in capsys.readouterr().err) == (share is not None)
