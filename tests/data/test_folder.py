"""Reading images, masks, class tables and folders of them; everything wrong is refused with a sentence."""

import json
import os
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from openseg_jax.data import FolderSource, SyntheticSource, load_classes
from openseg_jax.data.check import check_folder
from openseg_jax.data.images import image_files, read_image, read_mask, read_size, write_mask
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable
from tests.data import folders


@pytest.fixture
def root(tmp_path):
    return folders.write(tmp_path)


def source(root, split="train"):
    return FolderSource(str(root), split, load_classes(str(root / "classes.json")))


def refused(function, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_samples(root):
    data = source(root)
    assert len(data) == 6
    assert data.names == [f"scene{i}" for i in range(6)]
    sample = data[1]
    assert sample["image"].shape == (33, 64, 3)
    assert data.size(1) == (33, 64) == sample["label"].shape
    assert set(np.unique(sample["label"])) == {0, 1, 2, 255}  # ids 3, 7, 9 and void


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "tif"])
def test_image_formats(root, suffix):
    path = root / "train" / "image" / "scene0.png"
    exact = read_image(path)
    Image.open(path).save(path.with_suffix(f".{suffix}"))
    path.unlink()
    image = source(root)[0]["image"]
    assert image.shape == exact.shape
    assert suffix == "jpg" or np.array_equal(image, exact)


def test_missing_folders(root, tmp_path):
    assert "there is no folder" in refused(source, root, "test")
    (root / "empty" / "image").mkdir(parents=True)
    assert "contains no .png" in refused(source, root, "empty")


def test_images_and_masks_need_each_other(root):
    (root / "train" / "label" / "scene2.png").unlink()
    message = refused(source, root)
    assert "1 of 6 have an image but no mask in label/ of the same name, such as scene2" in message
    (root / "train" / "image" / "scene2.png").unlink()
    (root / "train" / "image" / "scene3.png").unlink()
    assert "1 of 5 have a mask but no image in image/ of the same name, such as scene3" in refused(source, root)


def test_two_images_of_one_name(root):
    Image.new("RGB", (8, 8)).save(root / "train" / "image" / "scene0.jpg")
    assert "two files of the name scene0" in refused(source, root)


def test_mask_of_another_size(root):
    folders.save(root / "train" / "label" / "scene0.png", np.full((40, 55), 3, np.uint8))
    message = refused(source(root).__getitem__, 0)
    assert "is 40x55 (height x width), its image is 40x56" in message


def test_ids_that_no_class_has(root):
    mask = np.full((40, 56), 3, np.uint8)
    mask[5, 5:7] = 12, 77
    folders.save(root / "train" / "label" / "scene0.png", mask)
    assert refused(source(root).__getitem__, 0).endswith(
        "scene0.png contains the ids 12, 77, which shapes does not have: its classes are the ids 3, 7, 9, "
        "and 255 are ignored"
    )


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("RGB", "is an image of mode RGB, not a mask"),
        ("RGBA", "is an image of mode RGBA"),
        ("I;16", "is an image of mode I;16"),
    ],
)
def test_masks_with_colours_or_16_bits(tmp_path, mode, says):
    path = tmp_path / "mask.png"
    Image.new(mode, (4, 4)).save(path)
    assert says in refused(read_mask, path)


def test_palette_masks_are_indices(tmp_path):
    write_mask(tmp_path / "mask.png", np.array([[0, 1], [2, 255]], np.uint8), np.full((256, 3), 77))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), [[0, 1], [2, 255]])


def test_damaged_files(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "mask.jpg")
    assert "whose compression invents class ids" in refused(read_mask, tmp_path / "mask.jpg")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n")
    for reader in (read_image, read_mask, read_size):
        assert "damaged" in refused(reader, tmp_path / "bad.png")
    assert "No such file" in refused(read_image, tmp_path / "missing.png")


def test_size_is_that_of_the_upright_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert read_size(tmp_path / "a.jpg") == (30, 20) == read_image(tmp_path / "a.jpg").shape[:2]


# ---------------------------------------------------------------------------------------------------------------------


def test_class_tables_of_the_benchmarks():
    cityscapes = load_classes("cityscapes")
    assert len(cityscapes) == 19
    assert cityscapes.ids == (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
    encoded = cityscapes.encode(np.arange(34, dtype=np.uint8)[None], "mask")[0]
    assert encoded[7] == 0
    assert encoded[33] == 18
    assert (encoded == 255).sum() == 15
    assert load_classes("camvid").names[8] == "car"


@pytest.mark.parametrize("name", ["cityscapes", "camvid"])
def test_class_tables_survive_their_dictionary(name):
    table = load_classes(name)
    assert ClassTable.from_dict(json.loads(json.dumps(table.to_dict())), "here") == table


def test_class_tables_of_ones_own(tmp_path):
    path = tmp_path / "classes.json"
    path.write_text('{"classes": [{"name": "a"}, {"name": "b"}]}')
    table = load_classes(str(path))
    assert (table.names, table.ids, table.void) == (("a", "b"), (0, 1), (255,))
    assert table.colors == ((128, 0, 0), (0, 128, 0))
    for content, says in (
        ("{", "is not valid JSON"),
        ("{}", 'needs a list "classes"'),
        ('{"classes": [{"id": 3}]}', 'needs a list "classes" of names, or of objects with a "name" each'),
        ('{"classes": [{"name": "a", "id": 300}]}', "ids are whole numbers from 0 to 255"),
        ('{"classes": [{"name": "a", "id": 1}, {"name": "b", "id": 1}]}', "every id may stand for only one class"),
        ('{"classes": [{"name": "a", "id": 255}]}', "every id may stand for only one class"),
    ):
        path.write_text(content)
        assert says in refused(load_classes, str(path))
    assert "give a JSON or YAML file, or one of " in refused(load_classes, "kitti")


def test_synthetic_scenes_are_seeded_and_varied():
    scenes = SyntheticSource("train", 20, (64, 80))
    again = SyntheticSource("train", 20, (64, 80))
    np.testing.assert_array_equal(scenes[3]["image"], again[3]["image"])
    np.testing.assert_array_equal(scenes[3]["label"], again[3]["label"])
    for other in (
        scenes[4],
        SyntheticSource("val", 20, (64, 80))[3],
        SyntheticSource("train", 20, (64, 80), seed=1)[3],
    ):
        assert not np.array_equal(scenes[3]["image"], other["image"])
    seen = {int(i) for scene in map(scenes.__getitem__, range(20)) for i in np.unique(scene["label"])}
    assert seen == {0, 1, 2, 3, 4, 5, 255}
    assert scenes[0]["image"].shape == (64, 80, 3)
    assert scenes.size(0) == (64, 80)


# ---------------------------------------------------------------------------------------------------------------------
# What is no file


def dangling(path):
    path.symlink_to(path.parent / "nothing")


def looping(path):
    path.symlink_to(path)


@pytest.mark.parametrize("make", [dangling, looping, os.mkfifo, os.mkdir])
def test_every_command_lists_a_folder_alike(root, make):
    """What has the name of an image is one, and reading it says what it is, in the check as in training."""
    path = root / "train" / "image" / "scene2.png"
    path.unlink()
    make(path)
    assert path in image_files(path.parent)
    says = refused(source(root).__getitem__, 2)
    assert says.startswith(f"cannot read {path}: ")
    assert refused(source(root).size, 2) == says
    (fault,) = check_folder(root, load_classes(str(root / "classes.json")), ("train", "val")).faults
    assert (fault.kind, fault.examples) == ("unreadable_image", ("train/image/scene2.png",))
    assert says.rpartition(": ")[2] in fault.message


def test_hidden_files_are_no_images(root):
    folder = root / "train" / "image"
    before = image_files(folder)
    (folder / "._scene0.png").write_bytes(b"what macOS leaves behind")
    assert image_files(folder) == before
    assert len(source(root)) == 6


def test_folder_that_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(type(tmp_path), "iterdir", mock.Mock(side_effect=PermissionError(13, "Permission denied")))
    assert "cannot read the folder" in refused(image_files, tmp_path)
