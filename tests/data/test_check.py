"""The data check: every fault, planted alone into a clean set, is found under its name, and the clean set has none.

With CAMVID=PATH, a folder with the CamVid data set, the same faults are planted into copies of that too.
"""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from openseg_jax.data import load_classes
from openseg_jax.data.check import check_folder, quick_check
from openseg_jax.labels.classes import ClassTable, bit_color
from tests.data.streets import STREET, DataSet, blend, load, with_palette


@pytest.fixture(params=["streets", *["camvid"] * ("CAMVID" in os.environ)])
def clean(request, tmp_path):
    if request.param == "streets":
        original, table = request.getfixturevalue("streets"), STREET
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


@plant("unreadable_image")
def link_to_nowhere(data):
    data.images()[2].unlink()
    data.images()[2].with_name("02.jpg").symlink_to(data.root / "nothing")


@plant("unreadable_mask")
def link_to_itself(data):
    path = data.masks()[2]
    path.unlink()
    path.symlink_to(path)


@plant("unreadable_mask")
def pipe(data):
    path = data.masks()[2]
    path.unlink()
    os.mkfifo(path)


@plant("unreadable_image")
def folder_called_like_an_image(data):
    path = data.images()[2]
    path.unlink()
    path.mkdir()


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


def save_as_floats(data, change, *splits):
    for path in data.masks(*splits):
        Image.fromarray(change(np.asarray(load(path))).astype(np.float32)).save(path.with_suffix(".tif"))
        path.unlink()


@plant("deep_mask")
def whole_floats(data):
    save_as_floats(data, lambda mask: mask, "val")


@plant("deep_mask")
def halves(data):
    save_as_floats(data, lambda mask: mask / 2, "val")


@plant("deep_mask")
def no_data(data):
    save_as_floats(data, lambda mask: np.where(mask == 255, -9999, mask * 1.0), "val")


@plant("deep_mask")
def not_a_number(data):
    save_as_floats(data, lambda mask: np.where(mask == 255, np.nan, mask))


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


@plant("palette_disagrees")
def colors_as_palettes(data):
    data.each_mask(lambda mask: Image.fromarray(data.colors()[mask]).quantize(256, dither=Image.Dither.NONE))


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


def two_classes(data, *ids):
    data.table["classes"] = [{"name": "rest", "id": ids[0]}, {"name": "road", "id": ids[1]}]
    data.table["void"] = [255] if 255 not in ids else []


@plant("blurred_mask")
def black_and_white_smoothed(data):
    data.each_mask(lambda mask: blend(Image.fromarray(np.where(mask == 2, 255, 0).astype(np.uint8))))
    two_classes(data, 0, 1)


@plant("blurred_mask")
def one_grey_level(data):
    """The void list of the table holds the object itself, and must not be proposed."""
    two_classes(data, 0, 1)

    def change(mask):
        mask = np.where(mask == 2, 255, 0)
        mask[20, 20:40] = 128
        return mask

    data.each_mask(change)


@plant("mixed_binary")
def ones_and_black_and_white(data):
    data.each_mask(lambda mask: mask == 2)
    two_classes(data, 0, 1)
    for path in data.masks()[::2]:
        Image.fromarray(np.asarray(load(path)) * np.uint8(255)).save(path)


@plant("mixed_binary")
def ones_in_val(data):
    data.each_mask(lambda mask: (mask == 2) * 255)
    data.each_mask(lambda mask: mask // 255, "val")
    two_classes(data, 0, 255)


@plant("one_class")
def nothing_but_road(data):
    data.each_mask(lambda mask: np.where(mask == 2, 0, 255))
    data.table["classes"] = [{"name": "road"}]


@plant("restarting_ids", "warning")
def numbered_objects(data):
    data.table["classes"] = [{"name": f"class {i}"} for i in range(6)]
    for index, path in enumerate(data.masks()):
        mask = np.zeros((*load(path).size[::-1],), np.uint8)
        for number in range(1 + index % 5):
            mask[5:20, 10 * number : 10 * number + 8] = number + 1
        Image.fromarray(mask).save(path)


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


def with_all_ids(mask):
    mask = mask.copy()
    mask[-11:, 10:40] = np.arange(11)[:, None]
    return mask


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


def black_and_white_with_void(data):
    """Masks of 0 and 255 only are images of nothing, if others have 1 beside 255."""
    data.each_mask(lambda mask: np.where(mask == 255, 255, mask == 2))
    for path in (*data.masks("train")[:3], *data.masks("val")[:3]):
        mask = np.asarray(load(path))
        Image.fromarray(np.where(mask == 1, 0, mask).astype(np.uint8)).save(path)
    two_classes(data, 0, 1)


def hidden_files(data):
    (data.root / "train" / "image" / "._00.jpg").write_bytes(b"what macOS leaves behind")
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
    black_and_white_with_void,
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
