"""Times the ground truth of SegFix, computed on the fly with the distance transform of either library, on one core.

    python -m benchmarks.segfix_ground_truth

Label maps are those of synthetic scenes, with six classes. "OpenCV" is what training uses; "SciPy" is the same with the
distance transform that the original uses; "whole image" is OpenCV without cutting out each class; "file" reads what
was computed from a .mat file. The first table compares the distances of both libraries.
"""

import itertools
import tempfile
from pathlib import Path

import cv2
import numpy as np
import scipy.ndimage

from benchmarks import harness
from benchmarks.input_pipeline import on_one_core
from openseg_jax.data import SyntheticSource
from openseg_jax.data.maps import read_offset, write_offset
from openseg_jax.labels import ground_truth


def labels(count: int, size: tuple[int, int]) -> list[np.ndarray]:
    scenes = SyntheticSource("train", count, size)
    return [scenes[i]["label"] for i in range(len(scenes))]


def opencv(settings) -> dict:
    on_one_core()
    maps = labels(settings.maps, settings.size)
    return {"run": lambda: [ground_truth.semantic_offsets(label) for label in maps]}


def scipy_distances(settings) -> dict:
    ground_truth._distance_inside = lambda mask, metric: exact_distance(mask)
    return opencv(settings)


def whole_image(settings) -> dict:
    def boxes(segments):
        every = tuple(slice(0, side) for side in segments.shape)
        return [sides and every for sides in find_objects(segments)]

    find_objects, scipy.ndimage.find_objects = scipy.ndimage.find_objects, boxes
    return opencv(settings)


def file(settings) -> dict:
    on_one_core()
    paths = [Path(settings.root) / f"{i}.mat" for i in range(settings.maps)]
    for path, label in zip(paths, labels(settings.maps, settings.size), strict=True):
        write_offset(path, **ground_truth.semantic_offsets(label))
    return {"run": lambda: [read_offset(path, settings.size) for path in paths]}


def exact_distance(mask: np.ndarray) -> np.ndarray:
    return scipy.ndimage.distance_transform_edt(mask).astype(np.float32)


def differences(maps: list[np.ndarray]) -> dict:
    """Compares the distances of the two libraries over all classes of all label maps."""
    largest, wrong, total = 0.0, 0, 0
    for label, k in itertools.product(maps, range(len(SyntheticSource.classes))):
        mask = (label == k).astype(np.uint8)
        ours, theirs = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), exact_distance(mask)
        largest = max(largest, float(abs(ours - theirs).max()))
        wrong += np.count_nonzero(ours.astype(int) != theirs.astype(int))
        total += np.count_nonzero(mask)
    return {"pixels": total, "other whole pixels": wrong, "largest difference": largest}


if __name__ == "__main__":
    parser = harness.parser(__doc__)
    parser.add_argument("--maps", type=int, default=8, help="label maps in a timed run")
    a = parser.parse_args()
    contestants = {"OpenCV": opencv, "SciPy": scipy_distances, "whole image": whole_image, "file": file}
    results, rows = [], []
    for size in ((512, 512), (1024, 2048)):
        shape = f"{size[0]}x{size[1]}"
        with tempfile.TemporaryDirectory() as root:
            results += harness.compete(contestants, a, work=a.maps, shape=shape, size=size, root=root)
        rows.append({"size": shape} | differences(labels(a.maps, size)))
    harness.report("Distances of OpenCV and SciPy", rows, None)
    headings = {"ms_each": "ms per sample", "per_s": "samples/s per core", "peak_mb": "peak MB"}
    harness.report("SegFix ground truth", results, a.out, shape="size", name="from", **headings)
