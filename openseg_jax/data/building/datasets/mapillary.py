"""Mapillary Vistas, the 66 labels of versions 1.0 to 1.2, which version 2.0 has too."""

from openseg_jax.data.building.builder import Part, SegmentationBuilder, Split


class Mapillary(SegmentationBuilder):
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
