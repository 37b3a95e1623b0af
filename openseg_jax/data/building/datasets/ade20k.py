"""ADE20K, the 150 classes of the scene parsing challenge."""

from openseg_jax.data.building.builder import Part, SegmentationBuilder, Split


class Ade20k(SegmentationBuilder):
    """release_test.zip adds the test images, whose labels are not public."""

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
