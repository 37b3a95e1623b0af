"""Tiny archives in the layouts that the benchmarks publish. Each writer returns what a build of them must contain."""

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from openseg_jax.data import load_classes

Expected = dict[str, dict[str, tuple[bytes, np.ndarray | None]]]  # split -> name -> encoded image, raw ids


class Maker:
    """Draws images and masks of a class table, and remembers them."""

    def __init__(self, table: str, mode: str = "L"):
        classes = load_classes(table)
        self.ids = np.array([*[i for i in classes.ids if i is not None][:5], classes.void[0]], np.uint8)
        self.mode, self.rng, self.expected = mode, np.random.default_rng(0), {}

    def sample(self, split: str, name: str, suffix: str = "jpg", labelled: bool = True):
        """(image file, mask file or None), entered under split and name."""
        height, width = self.rng.integers(20, 40, 2)
        image = encode(self.rng.integers(0, 256, (height, width, 3), np.uint8), suffix)
        mask = self.rng.choice(self.ids, (height, width)) if labelled else None
        self.expected.setdefault(split, {})[name] = image, mask
        return image, None if mask is None else encode(mask, mode=self.mode)


def encode(array: np.ndarray, suffix: str = "png", mode: str = "L") -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(array)
    if mode == "P":
        image.putpalette(np.random.default_rng(1).integers(0, 256, 768, np.uint8).tobytes())
    image.save(file, format="JPEG" if suffix == "jpg" else "PNG")
    return file.getvalue()


def pack(path: Path, members: dict[str, bytes]) -> None:
    """A zip, tar or tar.gz by its name, a folder where the name ends in neither."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    elif ".tar" in path.name:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    else:
        for name, content in members.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def mat(field: str, mask: np.ndarray) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, {field: mask}, do_compression=True)
    return file.getvalue()


def cityscapes(folder: Path, cities=("aachen", "bochum"), coarse: bool = True) -> Expected:
    maker = Maker("cityscapes")
    images, fine, extra, blurred = {}, {}, {}, {}
    for split in ("train", "val", "test"):
        for city in cities:
            for number in range(2):
                name = f"{city}_00000{number}_000019"
                image, mask = maker.sample(split, f"{name}_leftImg8bit", "png", labelled=split != "test")
                images[f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png"] = image
                fine[f"gtFine/{split}/{city}/{name}_gtFine_labelIds.png"] = mask or b"blank in the official archive"
                fine[f"gtFine/{split}/{city}/{name}_gtFine_instanceIds.png"] = b"not used"
                blurred[f"gtCoarse/{split}/{city}/{name}_gtCoarse_labelIds.png"] = b"must never be used"
    if coarse:
        name = "augsburg_000000_000001"
        image, mask = maker.sample("coarse", f"{name}_leftImg8bit", "png")
        extra[f"leftImg8bit/train_extra/augsburg/{name}_leftImg8bit.png"] = image
        blurred[f"gtCoarse/train_extra/augsburg/{name}_gtCoarse_labelIds.png"] = mask
        pack(folder / "leftImg8bit_trainextra.zip", extra)
        pack(folder / "gtCoarse.zip", blurred)
    pack(folder / "leftImg8bit_trainvaltest.zip", images | {"__MACOSX/leftImg8bit/train/a/._x_leftImg8bit.png": b""})
    pack(folder / "gtFine_trainvaltest.zip", fine)
    return maker.expected


def ade20k(folder: Path) -> Expected:
    maker, members = Maker("ade20k"), {}
    for split, part, count in (("train", "training", 3), ("val", "validation", 2)):
        for number in range(count):
            name = f"ADE_{split}_{number:08d}"
            image, mask = maker.sample(split, name)
            members[f"ADEChallengeData2016/images/{part}/{name}.jpg"] = image
            members[f"ADEChallengeData2016/annotations/{part}/{name}.png"] = mask
    pack(folder / "ADEChallengeData2016.zip", members)
    return maker.expected


def lip(folder: Path) -> Expected:
    maker, images, masks = Maker("lip"), {}, {}
    for split in ("train", "val"):
        for number in range(2):
            name = f"{number}_1234"
            images[f"{split}_images/{name}.jpg"], masks[f"{split}_segmentations/{name}.png"] = maker.sample(split, name)
    test = {"testing_images/7_8.jpg": maker.sample("test", "7_8", labelled=False)[0]}
    nested = "TrainVal_parsing_annotations/TrainVal_parsing_annotations.zip"
    pack(folder / "TrainVal_images.zip", {"TrainVal_images.zip": zipped(images)})
    pack(folder / "TrainVal_parsing_annotations.zip", {nested: zipped(masks)})
    pack(folder / "Testing_images.zip", test)
    return maker.expected


def atr(folder: Path) -> Expected:
    maker, members = Maker("atr"), {}
    for name in ("dataset10k_1", "dataset10k_2"):
        image, mask = maker.sample("train", name)
        members[f"humanparsing/JPEGImages/{name}.jpg"] = image
        members[f"humanparsing/SegmentationClassAug/{name}.png"] = mask
    pack(folder / "humanparsing.zip", members)
    return maker.expected


def cihp(folder: Path) -> Expected:
    maker, members = Maker("cihp"), {}
    for split, part in (("train", "Training"), ("val", "Validation"), ("test", "Testing")):
        image, mask = maker.sample(split, "0000001", labelled=split != "test")
        members[f"instance-level_human_parsing/{part}/Images/0000001.jpg"] = image
        if mask:
            members[f"instance-level_human_parsing/{part}/Category_ids/0000001.png"] = mask
    pack(folder / "instance-level_human_parsing.tar.gz", members)
    return maker.expected


def pascal_context(folder: Path, source: str = "pth") -> Expected:
    """source: "pth", or "mat" for the original's 459 labels."""
    maker, members, mats = Maker("pascal_context_59"), {"VOCdevkit/VOC2010/JPEGImages/2007_000001.jpg": b"no label"}, {}
    for split in ("train", "val"):
        masks = {}
        for name in ("2008_000008", "2008_000015") if split == "train" else ("2009_000001",):
            members[f"VOCdevkit/VOC2010/JPEGImages/{name}.jpg"], _ = maker.sample(split, name)
            mask = maker.expected[split][name][1]
            masks[int(name.replace("_", ""))] = Image.fromarray(mask)
            # Labels 2, 9, 18, 19 and 22 are the first classes; 1 is none of the 59.
            mats[f"trainval/{name}.mat"] = mat("LabelMap", np.array([1, 2, 9, 18, 19, 22], np.uint16)[mask])
        members[f"VOCdevkit/VOC2010/ImageSets/Main/{split}.txt"] = "\n".join(maker.expected[split]).encode()
        if source == "pth":
            # As torch saved before 1.6: a number, the version, the machine, the dict, and the keys of tensors.
            content = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, masks, []]
            folder.mkdir(exist_ok=True)
            (folder / f"{split}.pth").write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in content))
    if source == "mat":
        pack(folder / "trainval.tar.gz", mats)
    pack(folder / "VOCtrainval_03-May-2010.tar", members)
    return maker.expected


def coco_stuff_10k(folder: Path) -> Expected:
    maker, members = Maker("coco_stuff_10k"), {}
    for split, official in (("train", "train"), ("val", "test")):
        names = [f"COCO_train2014_{split}{number}" for number in range(2)]
        for name in names:
            members[f"images/{name}.jpg"], _ = maker.sample(split, name)
            members[f"annotations/{name}.mat"] = mat("S", maker.expected[split][name][1])
        members[f"imageLists/{official}.txt"] = "\n".join(names).encode()
    pack(folder / "cocostuff-10k-v1.1.zip", members)
    return maker.expected


def coco_stuff_164k(folder: Path) -> Expected:
    maker, masks = Maker("coco_stuff_164k"), {}
    for split in ("train", "val"):
        image, masks[f"{split}2017/000000000009.png"] = maker.sample(split, "000000000009")
        pack(folder / f"{split}2017.zip", {f"{split}2017/000000000009.jpg": image})
    pack(folder / "stuffthingmaps_trainval2017.zip", masks)
    return maker.expected


def mapillary(folder: Path) -> Expected:
    maker, members = Maker("mapillary", mode="P"), {}
    for split, part in (("train", "training"), ("val", "validation"), ("test", "testing")):
        members[f"{part}/images/x-{split}.jpg"], mask = maker.sample(split, f"x-{split}", labelled=split != "test")
        if mask:
            members[f"{part}/labels/x-{split}.png"] = mask
    pack(folder / "mapillary-vistas-dataset_public_v1.2.zip", members)
    return maker.expected


def celeba(folder: Path) -> Expected:
    """One image a split; image 2000, the first of the second folder of masks, has hair over skin."""
    root, members, lines, expected = "CelebAMask-HQ", {}, ["idx orig_idx orig_file"], {}
    for index, original, split in ((0, 162770, "train"), (1, 162771, "val"), (2000, 182638, "test")):
        image = encode(np.full((1024, 1024, 3), index % 256, np.uint8), "jpg")
        skin, hair = np.zeros((2, 512, 512, 3), np.uint8)
        skin[100:400, 100:400], hair[50:200] = 255, 255
        members[f"{root}/CelebA-HQ-img/{index}.jpg"] = image
        for part, mask in (("skin", skin), ("hair", hair)):
            members[f"{root}/CelebAMask-HQ-mask-anno/{index // 2000}/{index:05d}_{part}.png"] = encode(mask)
        merged = np.zeros((1024, 1024), np.uint8)
        merged[200:800, 200:800], merged[100:400] = 1, 13
        expected[split] = {str(index): (image, merged)}
        lines.append(f"{index}    {original}    {original + 1:06d}.jpg")
    members[f"{root}/CelebA-HQ-to-CelebA-mapping.txt"] = "\n".join(lines).encode()
    pack(folder / "CelebAMask-HQ.zip", members)
    return expected


def pascal_voc(folder: Path) -> Expected:
    maker, members, root = Maker("pascal_voc", mode="P"), {}, "VOCdevkit/VOC2012"
    for split in ("train", "val"):
        names = [f"2007_{split}{number}" for number in range(2)]
        for name in names:
            image, mask = maker.sample(split, name)
            members[f"{root}/JPEGImages/{name}.jpg"], members[f"{root}/SegmentationClass/{name}.png"] = image, mask
        members[f"{root}/ImageSets/Segmentation/{split}.txt"] = "\n".join(names).encode()
    pack(folder / "VOCtrainval_11-May-2012.tar", members)
    return maker.expected


def camvid(folder: Path) -> Expected:
    maker, members = Maker("camvid"), {}
    for split, count in (("train", 7), ("val", 2), ("test", 1)):
        for number in range(count):
            image, mask = maker.sample(split, f"0001TP_{number:06d}", "png")
            members[f"CamVid/{split}/0001TP_{number:06d}.png"] = image
            members[f"CamVid/{split}annot/0001TP_{number:06d}.png"] = mask
    pack(folder, members)
    return maker.expected


def oxford_pets(folder: Path) -> Expected:
    maker, images, labels = Maker("oxford_pets"), {"images/without_label.jpg": b""}, {}
    for split in ("trainval", "test"):
        image, mask = maker.sample(split, f"Abyssinian_{split}")
        images[f"images/Abyssinian_{split}.jpg"], labels[f"annotations/trimaps/Abyssinian_{split}.png"] = image, mask
        labels[f"annotations/trimaps/._Abyssinian_{split}.png"] = b"what macOS leaves behind"
        labels[f"annotations/{split}.txt"] = f"Abyssinian_{split} 1 1 1\n".encode()
    pack(folder / "images.tar.gz", images)
    pack(folder / "annotations.tar.gz", labels)
    return maker.expected


WRITERS = {
    writer.__name__: writer
    for writer in (cityscapes, ade20k, lip, atr, cihp, pascal_context, coco_stuff_10k, coco_stuff_164k, mapillary,
                   celeba, pascal_voc, camvid, oxford_pets)
}  # fmt: skip
