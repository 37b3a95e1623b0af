"""LIP, and the two data sets that are used along with it, ATR and CIHP."""

from openseg_jax.data.building.builder import Part, SegmentationBuilder, Split


class Lip(SegmentationBuilder):
    """The official archives hold further zips of the same names."""

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
    """The archive has no lists of the papers' splits; all of it is train."""

    name = table = "atr"
    parts = (Part("all", ("ICCV15_fashion_dataset(ATR).zip", "humanparsing.zip"), ("humanparsing",)),)
    counts = {"train": 17706}  # noqa: RUF012

    def find_splits(self, parts):
        images = parts["all"].find(r"JPEGImages/([^/]+)\.jpg")
        yield Split("train", images, parts["all"].find(r"SegmentationClassAug/([^/]+)\.png"))


class Cihp(SegmentationBuilder):
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
