"""CelebAMask-HQ."""

import functools

import numpy as np

from openseg_jax.data.building.archives import Member
from openseg_jax.data.building.builder import Part, SegmentationBuilder, Split
from openseg_jax.data.images import decode_image

# Painted in this order, later over earlier; the value is the place in it, and 0 is background.
PARTS = ("skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip",
         "hair", "hat", "ear_r", "neck_l", "neck", "cloth")  # fmt: skip
SIZE = 512


class CelebA(SegmentationBuilder):
    """The masks of an image's parts become one of 512x512.

    Images stay as they are, 1024x1024; the merged mask is enlarged to that size, each pixel to 2x2, because a sample
    has one size. The splits are those of CelebA, by the number that an image has there.
    """

    name = table = "celeba"
    parts = (Part("all", ("CelebAMask-HQ.zip",), ("CelebAMask-HQ",)),)
    labels_are_smaller = True

    def find_splits(self, parts):
        images = parts["all"].find(r"CelebA-HQ-img/(\d+)\.jpg")
        masks: dict[str, dict[str, Member]] = {}
        for key, member in parts["all"].find(r"CelebAMask-HQ-mask-anno/\d+/(\d{5}_\w+)\.png").items():
            number, part = key.split("_", 1)
            masks.setdefault(str(int(number)), {})[part] = member
        labels = {name: functools.partial(merge, by_part) for name, by_part in masks.items()}
        names = {"train": [], "val": [], "test": []}
        for line in parts["all"].lines("CelebA-HQ-to-CelebA-mapping.txt")[1:]:
            if line.strip():
                index, original, _ = line.split()
                split = "train" if int(original) < 162771 else "val" if int(original) < 182638 else "test"
                names[split].append(index)
        for split, of_split in names.items():
            yield Split(split, images, labels, of_split)


def merge(by_part: dict[str, Member]) -> np.ndarray:
    """uint8 (512, 512), 0..18, from the masks of the parts, which are white on black."""
    merged = np.zeros((SIZE, SIZE), np.uint8)
    for value, part in enumerate(PARTS, 1):
        if part in by_part:
            merged[decode_image(by_part[part].read(), str(by_part[part]))[..., 0] > 0] = value
    return merged
