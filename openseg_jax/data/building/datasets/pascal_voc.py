"""PASCAL VOC 2012."""

from openseg_jax.data.building.builder import Part, SegmentationBuilder, Split


class PascalVoc(SegmentationBuilder):
    name = table = "pascal_voc"
    parts = (Part("all", ("VOCtrainval_11-May-2012.tar",), ("VOCdevkit/VOC2012", "VOC2012")),)

    def find_splits(self, parts):
        images = parts["all"].find(r"JPEGImages/([^/]+)\.jpg")
        labels = parts["all"].find(r"SegmentationClass/([^/]+)\.png")
        for split in ("train", "val"):
            yield Split(split, images, labels, parts["all"].lines(f"ImageSets/Segmentation/{split}.txt"))
