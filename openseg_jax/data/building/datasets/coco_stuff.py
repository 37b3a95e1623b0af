"""COCO-Stuff, the first 10 thousand images and all 164 thousand."""

import functools
import io

import numpy as np
import scipy.io

from openseg_jax.data.building.archives import Member
from openseg_jax.data.building.builder import Part, SegmentationBuilder, Split


class CocoStuff10k(SegmentationBuilder):
    """The official test images, which have labels, are val."""

    name = table = "coco_stuff_10k"
    parts = (Part("all", ("cocostuff-10k-v1.1.zip",), ("annotations", "images", "imageLists")),)

    def find_splits(self, parts):
        images = parts["all"].find(r"images/([^/]+)\.jpg")
        mats = parts["all"].find(r"annotations/([^/]+)\.mat")
        labels = {name: functools.partial(label_map, member) for name, member in mats.items()}
        for split, official in (("train", "train"), ("val", "test")):
            yield Split(split, images, labels, parts["all"].lines(f"imageLists/{official}.txt"))


class CocoStuff164k(SegmentationBuilder):
    name = table = "coco_stuff_164k"
    parts = (
        Part("train", ("train2017.zip",), ("train2017",)),
        Part("val", ("val2017.zip",), ("val2017",)),
        Part("labels", ("stuffthingmaps_trainval2017.zip",), ("stuffthingmaps_trainval2017", "stuffthingmaps")),
    )

    def find_splits(self, parts):
        for split in ("train", "val"):
            images = parts[split].find(rf"{split}2017/([^/]+)\.jpg")
            yield Split(split, images, parts["labels"].find(rf"{split}2017/([^/]+)\.png"))


def label_map(member: Member) -> np.ndarray:
    """uint8 (H, W), 0..182, from a MATLAB file."""
    return scipy.io.loadmat(io.BytesIO(member.read()))["S"]
