"""What the data check advises is done here, and the masks are compared with what they were before they were spoilt."""

import json
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from openseg_jax.data.check import draft, scan_folder
from openseg_jax.data.images import read_mask
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable
from tests.data import test_check as plants
from tests.data.streets import load

# What needs another person or program, so that nothing is shown that could be copied.
BY_HAND = (
    plants.jpeg, plants.instances, plants.halves, plants.no_data, plants.not_a_number, plants.alpha,
    plants.infinite_mask, plants.color_of_no_class, plants.blended_colors, plants.black_and_white_smoothed,
    plants.one_grey_level, plants.nothing_but_road, plants.numbered_objects, plants.colors_as_palette,
)  # fmt: skip
TABLES = (
    plants.one_too_high, plants.one_too_low, plants.one_too_high_void_is_zero, plants.one_too_low_zero_unknown,
    plants.black_and_white, plants.visible_ids, plants.positions, plants.ids_of_cityscapes, plants.class_colors,
    plants.other_colors_and_alpha,
)  # fmt: skip
ENTRIES = plants.grey_for_colors, plants.one_stray_pixel, plants.colors_as_palettes
COMMANDS = (
    plants.sixteen_bits, plants.whole_floats, plants.grey_as_rgb, plants.ones_and_black_and_white, plants.ones_in_val,
)  # fmt: skip


def train_ids(data) -> dict[str, np.ndarray]:
    """uint8 (H, W) of each mask, as training sees it."""
    classes = ClassTable.from_dict(data.table, "table")
    colors = classes.masks == "colors"
    return {f"{p.parts[-3]}/{p.stem}": classes.encode(read_mask(p, colors=colors), str(p)) for p in data.masks()}


def assert_same_classes(truth: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    """Each class became one class, none became void, and none were merged."""
    assert truth.keys() == found.keys()
    pairs = set()
    for name, ids in truth.items():
        pairs |= set(map(tuple, np.unique(np.stack([ids.ravel(), found[name].ravel()]), axis=1).T.tolist()))
    kept = [pair for pair in pairs if pair[0] != 255]
    assert len({a for a, _ in kept}) == len({b for _, b in kept}) == len(kept)
    assert all(b != 255 for _, b in kept)


def truth_of(data, spoil) -> dict[str, np.ndarray]:
    truth = train_ids(data)
    if spoil in (plants.black_and_white, plants.ones_and_black_and_white, plants.ones_in_val):
        truth = {name: (ids == 2).astype(np.uint8) for name, ids in truth.items()}
    if spoil is plants.one_stray_pixel:
        truth["train/00"][5, 5] = 255
    return truth


@pytest.mark.parametrize("spoil", [*TABLES, *ENTRIES, *COMMANDS], ids=lambda spoil: spoil.__name__)
def test_advice(data, spoil):
    truth = truth_of(data, spoil)
    spoil(data)
    (fault,) = data.check().faults
    if spoil in COMMANDS:
        command = shlex.split(fault.snippet)
        subprocess.run([sys.executable, *command[1:]], check=True)
    elif spoil in TABLES:
        data.table = json.loads(fault.snippet)
        assert data.table == yaml.safe_load(fault.snippet)
    else:
        data.table |= json.loads(f"{{{fault.snippet}}}")
    if data.table.get("masks") == "colors" and spoil is plants.colors_as_palettes:
        data.table["void_colors"] = [[0, 0, 0]]
    assert data.check().ok
    assert_same_classes(truth, train_ids(data))


@pytest.mark.parametrize("spoil", BY_HAND, ids=lambda spoil: spoil.__name__)
def test_no_advice_to_copy(data, spoil):
    spoil(data)
    (fault,) = data.check().faults
    assert not fault.snippet
    assert "loses nothing" not in fault.fix


def test_commands_leave_other_masks_alone(data):
    """Also those that the quick check did not read."""
    plants.sixteen_bits(data)
    plants.save_as_floats(data, lambda mask: mask / 2, "train")
    (fault,) = (fault for fault in data.check(quick=True).faults if fault.snippet)
    before = {path: path.read_bytes() for path in data.masks("train")}
    assert re.search(r"if f.suffix in .* and f.name", fault.snippet)
    command = shlex.split(fault.snippet)
    subprocess.run([sys.executable, *command[1:]], check=True)
    assert {path: path.read_bytes() for path in data.masks("train")} == before
    assert {load(path).mode for path in data.masks("val")} == {"L"}


def test_folders_of_odd_names(data):
    """Commands name the real folders, in quotes where a shell needs them."""
    plants.sixteen_bits(data)
    odd = data.root.with_name("it's [mine] $x")
    data.root.rename(odd)
    data.root = odd
    for path in data.masks("val"):
        path.rename(path.with_suffix(".PNG"))
    (odd / "val" / "label").rename(odd / "val" / "label fine")
    (odd / "train" / "label").rename(odd / "train" / "label fine")
    fault = data.check(folders=("image", "label fine")).faults[0]
    command = fault.snippet.replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(command, shell=True, check=True)
    assert not data.check(folders=("image", "label fine")).faults


def test_no_draft_of_smoothed_masks(data):
    data.each_mask(lambda mask: plants.blend(Image.fromarray(np.where(mask == 2, 255, 0).astype(np.uint8))))
    with pytest.raises(InputError, match="look smoothed"):
        draft(scan_folder(data.root, None, ("train", "val")))


def test_no_draft_of_two_kinds_of_masks(data):
    plants.ones_and_black_and_white(data)
    with pytest.raises(InputError, match="others 0 and 255, and one class table"):
        draft(scan_folder(data.root, None, ("train", "val")))


def test_suffix_of_all_masks(data):
    for path in data.masks():
        path.rename(path.with_stem(f"{path.stem}_mask"))
    images, masks = data.check().faults
    assert images.fix.startswith("rename the masks: without '_mask' at the end")
    assert masks.kind == "mask_without_image"
    data.masks()[0].rename(data.masks()[0].with_stem("unrelated"))
    assert data.check().faults[0].fix == "add the masks, or move these images away"
