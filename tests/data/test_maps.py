"""Edges and offsets beside the labels, against the original's loaders."""

import cv2
import numpy as np
import pytest
import scipy.io

from openseg_jax.data import FolderSource, load_classes
from openseg_jax.data import transforms as T
from openseg_jax.data.augmentation import Augmentation
from openseg_jax.errors import InputError
from tests.conftest import golden
from tests.data import folders

Z = golden("loaders.npz")


def write(root, label):
    folders.save(root / "train" / "image" / "a.png", Z["in_bgr"][..., ::-1])
    folders.save(root / "train" / "label" / "a.png", label)


def labels(sample):
    return np.where(sample["label"] == 255, -1, sample["label"].astype(int))


def test_lip_with_edges(tmp_path):
    """The recorded sample is flipped, with left and right exchanged, resized to a square, cropped and padded."""
    write(tmp_path, Z["lip_in_label"])
    folders.save(tmp_path / "train" / "edge" / "a.png", Z["lip_in_edge"])
    lip = load_classes("lip")
    sample = FolderSource(str(tmp_path), "train", lip, maps=("edge",))[0]
    sample = T.crop(T.resize(T.flip(sample, lip.flip_pairs), 28, 28), 2, 8, 20, 20)
    np.testing.assert_array_equal(labels(sample), Z["lip_item__labelmap"])
    np.testing.assert_array_equal(sample["edge"], Z["lip_item__maskmap"])
    top, left = np.argwhere(Z["lip_batch__labelmap"][0] != -1).min(0)
    sample = T.pad(sample, top, left, 24, 24)
    np.testing.assert_array_equal(labels(sample), Z["lip_batch__labelmap"][0])
    np.testing.assert_array_equal(sample["edge"], Z["lip_batch__maskmap"][0])


def test_offsets(tmp_path):
    """The recorded training sample is a mirrored crop, in which the original left 0 and 180 degrees as they were."""
    write(tmp_path, Z["dt_in_label"])
    path = tmp_path / "train" / "offset_gt" / "dt_offset" / "a.mat"
    path.parent.mkdir(parents=True)
    maps = {"depth": Z["dt_in_depth"], "dir_deg": Z["dt_in_dir_deg"], "deg_reduce": 2}
    scipy.io.savemat(path, maps)
    files = {"maps": ("offset",), "offset_folder": "offset_gt/dt_offset"}
    source = FolderSource(str(tmp_path), "train", load_classes("cityscapes"), **files)
    sample = T.crop(T.flip(source[0], legacy_angle=True), 4, 3, 16, 20)
    np.testing.assert_array_equal(labels(sample), Z["dt_train_item__labelmap"])
    np.testing.assert_array_equal(sample["distance"], Z["dt_train_item__distance_map"])
    np.testing.assert_array_equal(sample["angle"], Z["dt_train_item__angle_map"])
    steps = Augmentation(chain=("center_crop",), crop=(16, 20)).draw((24, 32), np.random.default_rng(0))
    centre = T.apply(steps, source[0])
    np.testing.assert_array_equal(centre["angle"], Z["dt_val_meta__ori_angle_map"])
    batch = T.pad(centre, 0, 0, 20, 24)
    np.testing.assert_array_equal(batch["distance"], Z["dt_val_batch__distance_map"][0])
    np.testing.assert_array_equal(batch["angle"], Z["dt_val_batch__angle_map"][0])

    scipy.io.savemat(path, maps | {"depth": maps["depth"][:3], "dir_deg": maps["dir_deg"][:3]})
    with pytest.raises(InputError, match=r"a.mat is of size \(3, 32\), its label \(24, 32\)"):
        source[0]
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot read depth, dir_deg and deg_reduce from"):
        source[0]
    with pytest.raises(InputError, match="data.maps are among edge, offset, stereo, found 'depth'"):
        FolderSource(str(tmp_path), "train", load_classes("cityscapes"), maps=("depth",))


def test_depth_from_disparities(tmp_path):
    """metres = 500 * 0.5 / (value / 256), at most 63, which is also where there is no value."""
    write(tmp_path, Z["dt_in_label"])
    source = FolderSource(str(tmp_path), "train", load_classes("cityscapes"), maps=("stereo",))
    disparity = np.zeros(Z["dt_in_label"].shape, np.uint16)
    disparity[0, :3] = 6400, 1000, 16000
    (tmp_path / "train" / "stereo").mkdir()
    path = tmp_path / "train" / "stereo" / "a.png"
    cv2.imwrite(str(path), disparity)
    np.testing.assert_array_equal(source[0]["depth"][0, :4], np.float32([10, 63, 4, 63]))
    cv2.imwrite(str(path), disparity[:5])
    with pytest.raises(InputError, match=r"a.png is of size \(5, 32\), its label \(24, 32\)"):
        source[0]
    cv2.imwrite(str(path), disparity.astype(np.uint8))
    with pytest.raises(InputError, match="a.png is not a 16-bit PNG of disparities"):
        source[0]


def test_folders_of_other_names(tmp_path):
    write(tmp_path, Z["dt_in_label"])
    (tmp_path / "train" / "label").rename(tmp_path / "train" / "label_edge_void")
    source = FolderSource(str(tmp_path), "train", load_classes("cityscapes"), label_folder="label_edge_void")
    assert len(source) == 1
    with pytest.raises(InputError, match="there is no folder"):
        FolderSource(str(tmp_path), "train", load_classes("cityscapes"))
