"""Distances and angles made of labels, against the original's scripts and from first principles."""

import os
import pickle

import numpy as np
import pytest
import scipy.io
from PIL import Image
from rich.console import Console

from openseg_jax.data import FolderSource, RecordSource, SyntheticSource, load_classes
from openseg_jax.data import transforms as T
from openseg_jax.data.building import BUILDERS, build
from openseg_jax.data.maps import read_offset, write_offset
from openseg_jax.errors import InputError
from openseg_jax.labels.directions import gradient_kernels, quantize
from openseg_jax.labels.ground_truth import instance_offsets, semantic_offsets
from tests.conftest import golden
from tests.data import archives, folders

Z = golden("segfix_maps.npz")
CITYSCAPES = load_classes("cityscapes")
LABEL = CITYSCAPES.encode(Z["sem_in_city_labelids"], "the golden")
CASES = {
    "city_sem_k5_euc": lambda: semantic_offsets(LABEL),
    "city_sem_k3_euc": lambda: semantic_offsets(LABEL, kernel_size=3),
    "city_sem_k11_taxicab": lambda: semantic_offsets(LABEL, kernel_size=11, metric="taxicab"),
    "city_single_class": lambda: semantic_offsets(np.full((20, 24), 7, np.uint8)),
    "ade_sem_k5_euc": lambda: semantic_offsets(load_classes("ade20k").encode(Z["sem_in_ade"], "the golden")),
    "city_inst_k5_euc": lambda: instance_offsets(Z["inst_in"], CITYSCAPES.ids),
}


@pytest.mark.parametrize("case", CASES)
def test_as_the_original(case, tmp_path):
    """Angles that are a multiple of 2 degrees may be rounded down by a step, there or here; classes are the same."""
    maps = CASES[case]()
    assert (maps["distance"].dtype, maps["angle"].dtype) == (np.int32, np.float64)
    write_offset(tmp_path / "maps" / "a.mat", **maps)
    assert os.listdir(tmp_path / "maps") == ["a.mat"]
    content = scipy.io.loadmat(tmp_path / "maps" / "a.mat")
    for name in ("depth", "dir_deg", "deg_reduce"):
        recorded = Z[f"{case}__{name}"]
        assert content[name].shape == recorded.shape
        steps = abs(content[name].astype(int) - recorded.astype(int))
        assert steps.max() <= (name == "dir_deg")
    angle = 2.0 * Z[f"{case}__dir_deg"] - 180
    for n in (8, 16, 32):
        np.testing.assert_array_equal(quantize(maps["angle"], n), quantize(angle, n))

    again = read_offset(tmp_path / "maps" / "a.mat", maps["angle"].shape)
    for name, x in maps.items():
        assert again[name].dtype == x.dtype
        np.testing.assert_array_equal(again[name], x)


def blobs(seed: int, shape=(37, 45), count=6) -> np.ndarray:
    """A label map of random rectangles, of which one is void."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    for k in [*range(1, count), 255]:
        top, left = rng.integers(0, shape[0] - 8), rng.integers(0, shape[1] - 8)
        label[top : top + rng.integers(3, 25), left : left + rng.integers(3, 25)] = k
    return label


def slow(label, min_pixels):
    """True distances, and their gradients (2, H, W), from the definition."""
    distance, gradient = np.zeros(label.shape), np.zeros((2, *label.shape))
    kernels = gradient_kernels(5)
    for k in set(np.unique(label)) - {255}:
        inside = np.argwhere(label == k)
        if len(inside) < min_pixels:
            continue
        one = np.zeros(label.shape)
        squares = ((inside[:, None] - np.argwhere(label != k)) ** 2).sum(-1)
        one[label == k] = np.sqrt(squares.min(1))
        distance += one
        padded = np.pad(one, 2)
        for y, x in inside:
            gradient[:, y, x] = (kernels * padded[y : y + 5, x : x + 5]).sum((1, 2))
    return distance, gradient


def turned(a, b):
    """Degrees between angles."""
    return abs((a - b + 180) % 360 - 180)


@pytest.mark.parametrize("seed", range(3))
def test_segments_at_the_frame(seed):
    """Images of one row or column, whose classes are cut out of them with no room beside."""
    row = np.repeat(np.random.default_rng(seed).integers(0, 4, (1, 12)), 4, axis=1).astype(np.uint8)
    for label in (row, row.T, np.repeat(row, 5, axis=0)):
        expected, _ = slow(label, min_pixels=1)
        np.testing.assert_array_equal(semantic_offsets(label, min_pixels=1)["distance"], expected.astype(int))


@pytest.mark.parametrize("seed", range(3))
def test_from_first_principles(seed):
    label = blobs(seed)
    distance, gradient = slow(label, min_pixels=30)
    maps = semantic_offsets(label, min_pixels=30)
    np.testing.assert_array_equal(maps["distance"], distance.astype(int))
    angle = np.degrees(np.arctan2(*gradient))
    known = np.hypot(*gradient) > 1e-4
    assert known.sum() > 500
    assert turned(maps["angle"], angle)[known].max() < 2 + 1e-3
    assert np.all(maps["angle"][distance == 0] == 0)

    mirrored = semantic_offsets(label[:, ::-1], min_pixels=30)
    sample = T.flip({"image": np.zeros((*label.shape, 3), np.uint8), "label": label} | maps)
    np.testing.assert_array_equal(mirrored["distance"], sample["distance"])
    error = turned(mirrored["angle"], sample["angle"])[:, ::-1]
    on_step = abs(angle - 2 * np.round(angle / 2)) < 1e-3
    assert error[known & ~on_step].max() == 2, "rounded down on either side"
    assert error[known & on_step].max() <= 4, "a rounding error may take it another step down, on either side"


def test_small_and_far():
    """The original's limits: 100 pixels make a class, and 250 pixels is as far as it goes."""
    label = np.zeros((300, 640), np.uint8)
    label[:9, :11], label[20:30, :10] = 1, 2
    label[:, 600:] = 255
    maps = semantic_offsets(label)
    assert maps["distance"][:9, :11].max() == 0
    assert maps["distance"][20:30, :10].max() == 5
    assert maps["distance"][:, 600:].max() == 0
    assert maps["distance"].max() == maps["distance"][295, 320] == 250
    away = turned(maps["angle"][[150, 25], [590, 12]], np.array([180, 0]))
    assert np.all(away <= 2), "left of void, right of class 2"
    np.testing.assert_array_equal(semantic_offsets(np.full((12, 9), 255, np.uint8))["distance"], np.zeros((12, 9)))


def test_one_pixel():
    one = np.zeros((1, 1), np.uint8)
    assert semantic_offsets(one) == {"distance": 0, "angle": 0}
    assert semantic_offsets(one, min_pixels=1)["distance"] == 1
    assert instance_offsets(one.astype(np.uint16), (7,))["distance"] == 1


def test_neighbours_of_one_class_have_a_boundary():
    instances = np.full((12, 20), 26000, np.uint16)
    instances[:, 10:] = 26001
    maps = instance_offsets(instances, CITYSCAPES.ids)
    np.testing.assert_array_equal(maps["distance"], np.tile([*range(10, 0, -1), *range(1, 11)], (12, 1)))
    assert np.all(quantize(maps["angle"][4:8, 4:-4], 8) == np.repeat([0, 4], 6))
    instances[:, :10], instances[:, 10:] = 1, 3  # both of them void
    assert instance_offsets(instances, CITYSCAPES.ids)["distance"].min() == 1
    assert instance_offsets(instances, (1, 3))["distance"][0].tolist() == [*range(10, 0, -1), *range(1, 11)]


# ---------------------------------------------------------------------------------------------------------------------
# In samples


def write(root):
    names = ("a", "b")
    for name, ids in zip(names, (Z["sem_in_city_labelids"], Z["sem_in_city_labelids"][::-1]), strict=True):
        folders.save(root / "train" / "image" / f"{name}.png", np.stack([ids] * 3, axis=-1))
        folders.save(root / "train" / "label" / f"{name}.png", ids)
    folders.save(root / "train" / "instance" / "a.png", Z["inst_in"].astype(np.uint16))
    return str(root)


def test_computed_as_read(tmp_path):
    root = write(tmp_path)
    computed = FolderSource(root, "train", CITYSCAPES, maps=("offset",), offset_folder="")
    for i in range(2):
        maps = semantic_offsets(computed[i]["label"])
        write_offset(tmp_path / "train" / "offset_gt" / "dt_offset" / f"{computed.names[i]}.mat", **maps)
    read = FolderSource(root, "train", CITYSCAPES, maps=("offset",))
    for i in range(2):
        for name in ("distance", "angle"):
            np.testing.assert_array_equal(computed[i][name], read[i][name])
            assert computed[i][name].dtype == read[i][name].dtype
    assert set(computed[0]) == {"image", "label", "name", "distance", "angle"}


def test_instances_beside_labels(tmp_path):
    source = FolderSource(write(tmp_path), "train", CITYSCAPES, maps=("offset",), offset_folder="instance")
    np.testing.assert_array_equal(source[0]["distance"], Z["city_inst_k5_euc__depth"])
    with pytest.raises(InputError, match=r"cannot read a map of instance ids from .*b\.png: .*No such file"):
        source[1]
    folders.save(tmp_path / "train" / "instance" / "b.png", Z["inst_in"][:5].astype(np.uint16))
    with pytest.raises(InputError, match=r"b.png is of size \(5, 64\), its label \(48, 64\) \(height, width\)"):
        source[1]
    Image.new("RGB", (64, 48)).save(tmp_path / "train" / "instance" / "b.png")
    with pytest.raises(InputError, match="b.png is an image of mode RGB, not a map of instance ids"):
        source[1]


def test_synthetic_scenes_and_records(tmp_path, monkeypatch):
    scenes = SyntheticSource("train", 2, (48, 64), maps=("offset",), offset_folder="")
    np.testing.assert_array_equal(scenes[1]["distance"], semantic_offsets(scenes[1]["label"])["distance"])
    assert "distance" not in SyntheticSource("train", 2, (48, 64))[1]

    expected = archives.camvid(tmp_path / "in")
    monkeypatch.setattr(BUILDERS["camvid"], "counts", {split: len(samples) for split, samples in expected.items()})
    build("camvid", tmp_path / "in", tmp_path / "out", console=Console(quiet=True))
    camvid = load_classes("camvid")
    root = str(tmp_path / "out" / "camvid")
    records = pickle.loads(pickle.dumps(RecordSource(root, "train", camvid, maps=("offset",))))
    sample = records[0]
    np.testing.assert_array_equal(sample["angle"], semantic_offsets(sample["label"])["angle"])

    for maps, folder in ((("offset",), "offset_gt/dt_offset"), (("offset",), "instance"), (("edge",), "")):
        for make in (lambda **options: SyntheticSource("train", 2, (48, 64), **options),
                     lambda **options: RecordSource(root, "train", camvid, **options)):  # fmt: skip
            with pytest.raises(InputError, match=f"data.offset_folder='{folder}' are files, which only a folder"):
                make(maps=maps, offset_folder=folder)
