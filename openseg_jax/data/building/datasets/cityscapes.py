"""Cityscapes."""

from openseg_jax.data.building.builder import Part, SegmentationBuilder, Split


class Cityscapes(SegmentationBuilder):
    """Fine labels for train and val, images for test, whose labels are not public (the archive has blank ones).

    The split coarse is train_extra with its coarse labels, where those two archives are there. Coarse labels of train
    and val, which gtCoarse.zip has too, are never used.
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
