"""Oxford-IIIT Pet, the trimaps: pet, background, border."""

from openseg_jax.data.building.builder import Part, SegmentationBuilder, Split


class OxfordPets(SegmentationBuilder):
    """Some of the images are GIF or PNG under the name of a JPEG."""

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
