"""PASCAL-Context with 59 classes."""

import functools
import io

import numpy as np
import scipy.io

from openseg_jax.data.building.archives import Member
from openseg_jax.data.building.builder import Part, SegmentationBuilder, Split
from openseg_jax.data.building.pickled_masks import read_masks

# Those of the 459 labels that are used, in the order of the classes. Everything else is background.
LABELS = (2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158,
          159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366,
          368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458)  # fmt: skip


class PascalContext(SegmentationBuilder):
    """Images of VOC 2010, with labels 1..59, and 0 for background, from either of two sources.

    Those of PyTorch-Encoding are two files, each a dict from a number, such as 2008000008 for 2008_000008, to a mask.
    The original's are a MATLAB file for each image, with 459 labels, in the splits of VOC 2010.
    """

    name = "pascal_context"
    table = "pascal_context_59"
    parts = (
        Part("images", ("VOCtrainval_03-May-2010.tar",), ("VOCdevkit/VOC2010", "JPEGImages", "ImageSets")),
        Part("train", ("train.pth", "PytorchEncoding/train.pth"), optional=True),
        Part("val", ("val.pth", "PytorchEncoding/val.pth"), optional=True),
        Part("labels", ("trainval.tar.gz", "trainval.zip"), ("trainval",), optional=True),
    )

    def find_splits(self, parts):
        images = parts["images"].find(r"JPEGImages/([^/]+)\.jpg")
        if not ("labels" in parts or ("train" in parts and "val" in parts)):
            raise self.missing(parts["images"].path.parent, "train.pth and val.pth", "trainval.tar.gz")
        mats = {} if "train" in parts else parts["labels"].find(r"trainval/([^/]+)\.mat")
        for split in ("train", "val"):
            if "train" in parts:
                labels = {f"{str(key)[:4]}_{str(key)[4:]}": png for key, png in read_masks(parts[split].path).items()}
                yield Split(split, images, labels, labels)
            else:
                names = parts["images"].lines(f"ImageSets/Main/{split}.txt")
                labels = {name: functools.partial(label_map, mats[name]) for name in names if name in mats}
                yield Split(split, images, labels, names)


def label_map(member: Member) -> np.ndarray:
    """uint8 (H, W), 0..59, from the original's MATLAB file."""
    to_class = np.zeros(460, np.uint8)
    to_class[list(LABELS)] = np.arange(1, 60)
    return to_class[scipy.io.loadmat(io.BytesIO(member.read()))["LabelMap"]]
