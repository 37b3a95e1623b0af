"""The data check: every fault, planted alone into a clean set, is found under its name, and the clean set has none.

With CAMVID=PATH, a folder with the CamVid data set, the same faults are planted into copies of that too.
"""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from openseg_jax.cli import main
from openseg_jax.data import load_classes
from openseg_jax.data.check import check_folder, quick_check
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable, bit_color

STREET = {
    "title": "streets",
    "void": [255],
    "classes": [
        {"name": "sky", "color": [130, 160, 220]},
        {"name": "house", "color": [150, 100, 80]},
        {"name": "road", "color": [90, 90, 95]},
        {"name": "tree", "color": [60, 110, 50]},
        {"name": "car", "color": [190, 40, 50]},
    ],
}


def load(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        opened.load()
    return opened


class DataSet:
    """A folder and its class table, and ways to spoil them."""

    def __init__(self, root: Path, table: dict):
        self.root, self.table = root, table

    def check(self, splits=("train", "val"), quick=False):
        return check_folder(self.root, ClassTable.from_dict(self.table, "table"), splits, quick=quick)

    def images(self, split="train"):
        return sorted((self.root / split / "image").iterdir())

    def masks(self, *splits):
        return [
            path for split in splits or ("train", "val") for path in sorted((self.root / split / "label").iterdir())
        ]

    def each_mask(self, change, *splits):
        """change: array -> array or image, which replaces the mask."""
        for path in self.masks(*splits):
            changed = change(np.asarray(load(path)))
            (changed if isinstance(changed, Image.Image) else Image.fromarray(changed.astype(np.uint8))).save(path)

    def remap(self, ids: dict, *splits):
        lookup = np.arange(256)
        lookup[list(ids)] = list(ids.values())
        self.each_mask(lambda mask: lookup[mask], *splits)

    @property
    def ids(self) -> list[int]:
        return [row.get("id", i) for i, row in enumerate(self.table["classes"])]

    def give_ids(self, ids, **others):
        for row, i in zip(self.table["classes"], ids, strict=True):
            row["id"] = i
        self.table.update(others)

    def colors(self) -> np.ndarray:
        """uint8 (256, 3): the colour of every id, black for void."""
        colors = np.zeros((256, 3), np.uint8)
        colors[self.ids] = [row["color"] for row in self.table["classes"]]
        return colors


def scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A street: image uint8 (72, 96, 3) and mask uint8 (72, 96)."""
    height, width = 72, 96
    mask = np.full((height, width), 0, np.uint8)
    mask[rng.integers(14, 24) :, : rng.integers(60, 90)] = 1
    mask[rng.integers(44, 52) :] = 2
    for _ in range(2):
        x, y = rng.integers(0, width - 20), rng.integers(10, 30)
        mask[y : y + rng.integers(16, 24), x : x + rng.integers(10, 20)] = 3
    x, y = rng.integers(8, width - 30), rng.integers(46, 56)
    mask[y : y + rng.integers(8, 14), x : x + rng.integers(14, 24)] = 4
    mask[:, :2] = 255
    colors = np.zeros((256, 3))
    colors[:5] = [row["color"] for row in STREET["classes"]]
    colors[:5] += rng.normal(0, 12, (5, 3))
    light = np.linspace(rng.uniform(0.7, 1), rng.uniform(0.9, 1.2), width)[None, :, None]
    noise = np.repeat(np.repeat(rng.normal(0, 14, (height // 4, width // 4, 1)), 4, 0), 4, 1)
    image = colors[mask] * light + noise + rng.normal(0, 6, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8), mask


@pytest.fixture(scope="module")
def streets(tmp_path_factory) -> tuple[Path, dict]:
    root, rng = tmp_path_factory.mktemp("streets"), np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 12)):
        for folder in ("image", "label"):
            (root / split / folder).mkdir(parents=True)
        for index in range(count):
            image, mask = scene(rng)
            Image.fromarray(image).save(root / split / "image" / f"{index:02}.jpg", quality=95)
            Image.fromarray(mask).save(root / split / "label" / f"{index:02}.png")
    return root, STREET


@pytest.fixture(params=["streets", *["camvid"] * ("CAMVID" in os.environ)])
def clean(request, tmp_path):
    if request.param == "streets":
        original, table = request.getfixturevalue("streets")
    else:
        original, table = Path(os.environ["CAMVID"]), load_classes("camvid").to_dict()
    root = tmp_path / "data"
    for split in ("train", "val"):
        shutil.copytree(original / split, root / split, copy_function=shutil.copyfile)
    yield DataSet(root, json.loads(json.dumps(table)))
    shutil.rmtree(root)


# ---------------------------------------------------------------------------------------------------------------------
# Faults, each under the name that the check must find, with its severity

PLANTS = []


def plant(kind, severity="error"):
    def register(function):
        PLANTS.append(pytest.param(kind, severity, function, id=f"{kind}-{function.__name__}"))
        return function

    return register


@plant("image_without_mask")
def lost_mask(data):
    data.masks()[1].unlink()


@plant("image_without_mask")
def lost_masks(data):
    shutil.rmtree(data.root / "val" / "label")


@plant("mask_without_image")
def lost_image(data):
    data.images()[1].unlink()


@plant("same_name")
def twice(data):
    load(data.images()[0]).save(data.images()[0].with_suffix(".png"))


@plant("same_name")
def mask_twice(data):
    shutil.copy(data.masks()[0], data.masks()[0].with_suffix(".bmp"))


@plant("other_file", "warning")
def numpy_file(data):
    (data.root / "train" / "label" / "more.npy").write_bytes(b"")


@plant("unreadable_image")
def truncated_image(data):
    path = data.images()[2]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@plant("unreadable_image")
def empty_image(data):
    data.images()[2].write_bytes(b"")


@plant("unreadable_mask")
def truncated_mask(data):
    path = data.masks()[2]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@plant("unreadable_mask")
def one_bit_of_a_mask(data):
    content = bytearray(data.masks()[2].read_bytes())
    content[len(content) // 2] ^= 1
    data.masks()[2].write_bytes(content)


@plant("deep_image", "warning")
def twelve_bits(data):
    deep = np.asarray(load(data.images()[2])).astype(np.uint16) * 16
    cv2.imwrite(str(data.images()[2].with_suffix(".png")), deep[..., ::-1])
    data.images()[2].unlink()


@plant("dropped_band", "warning")
def infrared(data):
    image = load(data.images()[2]).convert("RGB")
    image.putalpha(image.convert("L"))
    image.save(data.images()[2].with_suffix(".tif"))
    data.images()[2].unlink()


@plant("deep_mask")
def infinite_mask(data):
    mask = np.asarray(load(data.masks()[2])).astype(np.float32)
    mask[0, 0] = np.inf
    Image.fromarray(mask).save(data.masks()[2].with_suffix(".tif"))
    data.masks()[2].unlink()


@plant("size_differs")
def smaller_mask(data):
    mask = load(data.masks()[3])
    mask.resize((mask.width // 2, mask.height // 2), Image.Resampling.NEAREST).save(data.masks()[3])


@plant("exif_turned")
def orientation(data):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = data.images()[0]
    load(path).save(path, exif=exif, quality=95)


@plant("jpeg_mask")
def jpeg(data):
    for path in data.masks("val"):
        load(path).save(path.with_suffix(".jpg"))
        path.unlink()


@plant("deep_mask")
def sixteen_bits(data):
    data.each_mask(lambda mask: Image.fromarray(mask.astype(np.uint16)), "val")


@plant("deep_mask")
def instances(data):
    data.each_mask(lambda mask: Image.fromarray(mask.astype(np.uint16) * 1000), "val")


@plant("color_mask")
def class_colors(data):
    data.each_mask(lambda mask: data.colors()[mask])


@plant("color_mask")
def other_colors_and_alpha(data):
    data.each_mask(lambda mask: Image.fromarray(255 - data.colors()[mask]).convert("RGBA"))


@plant("color_mask")
def grey_as_rgb(data):
    data.each_mask(lambda mask: np.repeat(mask[..., None], 3, -1))


@plant("other_mode")
def alpha(data):
    data.each_mask(lambda mask: Image.fromarray(mask).convert("LA"), "train")


@plant("id_mask")
def grey_for_colors(data):
    data.table |= {"masks": "colors", "void_colors": [[0, 0, 0]]}


@plant("id_mask")
def grey_palette_for_colors(data):
    data.table |= {"masks": "colors", "void_colors": [[1, 1, 1]]}
    data.each_mask(lambda mask: with_palette(mask, np.repeat(np.arange(256)[:, None], 3, 1)))


@plant("unknown_color")
def color_of_no_class(data):
    grey_palette_for_colors(data)
    colors = data.colors()
    colors[data.ids[2]] += 3
    data.each_mask(lambda mask: colors[mask])
    data.table["void_colors"] = [[0, 0, 0]]


@plant("unknown_color")
def blended_colors(data):
    data.table |= {"masks": "colors", "void_colors": [[0, 0, 0]]}
    data.each_mask(lambda mask: blend(Image.fromarray(data.colors()[mask])))


@plant("palette_disagrees")
def colors_as_palette(data):
    """As a tool does that orders the palette by its own rule."""
    data.each_mask(lambda mask: Image.fromarray(data.colors()[mask]).quantize(256, dither=Image.Dither.NONE), "val")


@plant("palettes_vary", "warning")
def palettes_of_other_colors(data):
    turn = iter(range(10**6))
    order = data.ids

    def change(mask):
        shift = next(turn) % 2
        lookup, colors = np.arange(256), np.stack([np.arange(256)] * 3, 1)
        lookup[order] = np.roll(order, shift) if shift else order
        colors[order] = np.roll(colors[order], -shift, 0)
        return with_palette(lookup[mask], colors)

    data.each_mask(change, "train")


@plant("unknown_id")
def one_stray_pixel(data):
    path = data.masks()[0]
    mask = np.asarray(load(path)).copy()
    mask[5, 5] = 77
    Image.fromarray(mask).save(path)


@plant("off_by_one")
def one_too_high(data):
    data.remap({i: i + 1 for i in data.ids})
    data.table["void"] = [255]


@plant("off_by_one")
def one_too_high_in_val(data):
    data.remap({i: i + 1 for i in data.ids}, "val")
    data.table["void"] = [255]


@plant("off_by_one")
def one_too_high_void_is_zero(data):
    data.remap({255: 0} | {i: i + 1 for i in data.ids})
    data.table["void"] = [255]


@plant("off_by_one")
def one_too_low(data):
    data.give_ids([i + 1 for i in data.ids], void=[0])


@plant("off_by_one")
def one_too_low_zero_unknown(data):
    data.give_ids([i + 1 for i in data.ids], void=[255])


@plant("binary_mask")
def black_and_white(data):
    data.each_mask(lambda mask: np.where(mask == 2, 255, 0))
    data.table["classes"] = [{"name": "rest"}, {"name": "road"}]
    data.table["void"] = [255]


@plant("spread_ids")
def visible_ids(data):
    data.remap({i: 20 * i for i in data.ids})


@plant("train_ids")
def positions(data):
    data.give_ids([7 + 2 * i for i in data.ids], void=[*range(7), 255])


@plant("train_ids")
def positions_of_cityscapes(data):
    data.table = load_classes("cityscapes").to_dict()
    data.remap({i: [10, 2, 5, 0, 1, 8, 7, 4, 13, 11, 18][i] for i in data.ids if i < 11})


@plant("raw_ids")
def ids_of_cityscapes(data):
    data.remap(dict(enumerate([23, 11, 17, 7, 26, 21, 20, 13, 8, 24, 33])))
    data.table = load_classes("cityscapes").to_dict() | {"void": [255]}
    data.give_ids(range(19))


@plant("class_order", "warning")
def names_sorted(data):
    camvid = load_classes("camvid").to_dict()
    data.each_mask(with_all_ids)
    rows = sorted(camvid["classes"], key=lambda row: row["name"])
    data.table = camvid | {"classes": [row | {"id": i} for i, row in enumerate(rows)]}


@plant("class_order")
def order_of_val(data):
    data.remap({i: (i + 2) % len(data.ids) for i in data.ids}, "val")


@plant("class_order", "warning")
def two_classes_exchanged_in_val(data):
    data.remap({0: 3, 3: 0}, "val")


@plant("empty_class", "warning")
def class_without_pixels(data):
    data.table["classes"].append({"name": "boat", "id": 100, "color": [1, 2, 3]})


@plant("class_not_in_train")
def class_in_val_only(data):
    data.remap({4: 255}, "train")


@plant("class_only_in_train", "warning")
def class_in_train_only(data):
    data.remap({4: 255}, "val")


@plant("tiny_class", "warning")
def class_of_few_pixels(data):
    data.table["classes"].append({"name": "boat", "id": 100, "color": [1, 2, 3]})
    for path in (data.masks("train")[0], data.masks("val")[0]):
        mask = np.asarray(load(path)).copy()
        mask[30, 30:35] = 100
        Image.fromarray(mask).save(path)


@plant("duplicate")
def same_image(data):
    copy_into_val(data, lambda image, path: Image.fromarray(np.asarray(image)).save(path.with_suffix(".png")))


@plant("near_duplicate", "warning")
def same_image_encoded_again(data):
    copy_into_val(data, lambda image, path: image.save(path.with_suffix(".jpg"), quality=75))


def copy_into_val(data, save):
    save(load(data.images()[0]), data.root / "val" / "image" / "copy")
    shutil.copy(data.masks("train")[0], data.root / "val" / "label" / "copy.png")


def with_palette(mask, colors) -> Image.Image:
    shown = Image.fromarray(mask.astype(np.uint8))
    shown.putpalette(np.asarray(colors, np.uint8).tobytes())
    return shown


def with_all_ids(mask):
    mask = mask.copy()
    mask[-11:, 10:40] = np.arange(11)[:, None]
    return mask


def blend(mask) -> Image.Image:
    small = mask.resize((mask.width // 2, mask.height // 2), Image.Resampling.BILINEAR)
    return small.resize(mask.size, Image.Resampling.BILINEAR)


@pytest.mark.parametrize(("kind", "severity", "spoil"), PLANTS)
def test_finds(clean, kind, severity, spoil):
    spoil(clean)
    report = clean.check()
    assert {(fault.kind, fault.severity) for fault in report.faults} == {(kind, severity)}
    assert report.ok == (severity == "warning")
    (fault,) = report.faults
    assert fault.count > 0
    assert fault.examples
    assert fault.fix
    assert "\n" not in fault.message


# ---------------------------------------------------------------------------------------------------------------------
# What is no fault


def test_clean(clean):
    assert not clean.check().faults
    assert not clean.check(quick=True).faults
    quick_check(clean.root, ("train", "val"), ClassTable.from_dict(clean.table, "table"))


def palette_in_class_colors(data):
    data.each_mask(lambda mask: with_palette(mask, data.colors()))


def palette_of_pascal_voc_and_no_colors_given(data):
    data.each_mask(lambda mask: with_palette(mask, [bit_color(i) for i in range(256)]))
    for row in data.table["classes"]:
        row.pop("color")


def color_masks_said_so(data):
    data.each_mask(lambda mask: data.colors()[mask])
    data.table |= {"masks": "colors", "void_colors": [[0, 0, 0]]}


def palette_for_color_masks(data):
    data.each_mask(lambda mask: Image.fromarray(data.colors()[mask]).quantize(256, dither=Image.Dither.NONE))
    data.table |= {"masks": "colors", "void_colors": [[0, 0, 0]]}


def one_bit(data):
    data.each_mask(lambda mask: Image.fromarray(mask == 2))
    data.table["classes"] = [{"name": "rest"}, {"name": "road"}]


def ids_with_gaps(data):
    data.remap({i: 9 + 3 * i for i in data.ids})
    data.give_ids([9 + 3 * i for i in data.ids])


def ids_from_one(data):
    data.remap({255: 0} | {i: i + 1 for i in data.ids})
    data.give_ids([i + 1 for i in data.ids], void=[0])


def aliases(data):
    data.remap({3: 60}, "train")
    data.table["classes"][3]["aliases"] = [60]


def next_frame(data):
    """A frame of a video in train, the following one in val."""
    image = np.asarray(load(data.images()[0]))
    moved = Image.fromarray(np.roll(image, image.shape[1] // 40, axis=1))
    copy_into_val(data, lambda _, path: moved.save(path.with_suffix(".png")))


def black_images(data):
    for split in ("train", "val"):
        path = data.images(split)[0]
        Image.new("RGB", load(path).size).save(path)


def hidden_files(data):
    (data.root / "train" / "image" / ".DS_Store").write_bytes(b"")


def orientation_that_the_mask_follows(data):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = load(data.images()[0]).transpose(Image.Transpose.ROTATE_90)
    stored.save(data.images()[0], exif=exif, quality=95)


HARMLESS = (
    palette_in_class_colors,
    palette_of_pascal_voc_and_no_colors_given,
    color_masks_said_so,
    palette_for_color_masks,
    one_bit,
    ids_with_gaps,
    ids_from_one,
    aliases,
    next_frame,
    black_images,
    hidden_files,
    orientation_that_the_mask_follows,
)


@pytest.mark.parametrize("change", HARMLESS, ids=lambda change: change.__name__)
def test_no_false_alarm(clean, change):
    change(clean)
    assert not clean.check().faults


def test_test_split_without_masks(clean):
    shutil.copytree(clean.root / "val" / "image", clean.root / "test" / "image")
    for path in clean.images("test"):
        Image.fromarray(np.asarray(load(path))[:, ::-1]).save(path)
    assert not clean.check(("train", "val", "test")).faults


def test_folders_of_other_names(clean):
    for split in ("train", "val"):
        (clean.root / split / "label").rename(clean.root / split / "label_fine")
    table = ClassTable.from_dict(clean.table, "table")
    assert not check_folder(clean.root, table, ("train", "val"), quick=True, folders=("image", "label_fine")).faults


# ---------------------------------------------------------------------------------------------------------------------
# What it says, and where


@pytest.fixture
def data(streets, tmp_path):
    shutil.copytree(streets[0], tmp_path / "data")
    return DataSet(tmp_path / "data", json.loads(json.dumps(streets[1])))


def check(*arguments) -> int:
    """Runs `openseg data check`; errors are raised."""
    with pytest.raises((SystemExit, InputError)) as caught:
        main(["data", "check", "--verbose", *arguments])
    if isinstance(caught.value, InputError):
        raise caught.value
    return caught.value.code


def test_fixes_that_lead_to_a_clean_set(data):
    """The table that a fault proposes is one that the masks fit."""
    for spoil in (one_too_high, one_too_low, visible_ids, positions, ids_of_cityscapes, black_and_white, class_colors):
        data.table = json.loads(json.dumps(STREET))
        before = {path: path.read_bytes() for path in data.masks()}
        spoil(data)
        (fault,) = data.check().faults
        data.table = json.loads(fault.snippet)
        assert data.table == yaml.safe_load(fault.snippet)
        assert data.check().ok
        for path, content in before.items():
            path.write_bytes(content)


@pytest.mark.parametrize("spoil", [sixteen_bits, grey_as_rgb])
def test_commands_that_lead_to_a_clean_set(data, spoil):
    spoil(data)
    (fault,) = data.check().faults
    program = shlex.split(fault.snippet)
    assert (program[:2], program[3]) == (["python", "-c"], "SPLIT/label/*.png")
    with mock.patch.object(sys, "argv", ["-c", *map(str, data.masks("train", "val"))]):
        exec(program[2].replace("Image.open(f)", "load(f)"), {"load": load})
    assert not data.check().faults


def test_suffix_of_all_masks(data):
    for path in data.masks():
        path.rename(path.with_stem(f"{path.stem}_mask"))
    images, masks = data.check().faults
    assert images.fix.startswith("rename the masks: without '_mask' at the end")
    assert masks.kind == "mask_without_image"


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
