"""Measures what SegFix gains: scores label maps with degraded boundaries, and those of a net, before and after it.

    python -m benchmarks.segfix_gain --checkpoint runs/segfix --root PATH --classes camvid --labels report/label

"shifted" is the truth moved by 2 pixels down and right, "blurred" each pixel's most likely class under a Gaussian of 4
pixels, "coarse" the truth at a quarter of its size, enlarged again. --labels is a folder of a net's label maps. F is
the boundary F-score, mean over the classes of an image, then over images. "recovered" is the part of 1 - F that
refinement wins back, at a tolerance of one pixel or so (0.00088 of the diagonal). "better" are the maps with more right
pixels after it. All maps of the split are scored.
"""

from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from benchmarks import harness
from openseg_jax.data import FolderSource, load_classes
from openseg_jax.data.images import read_mask
from openseg_jax.inference.offsets import offset_runner
from openseg_jax.labels.refinement import refine
from openseg_jax.metrics.boundaries import f_scores
from openseg_jax.metrics.confusion import confusion_matrix, mean, scores


def shifted(label: np.ndarray, num_classes: int) -> np.ndarray:
    return np.pad(label, ((2, 0), (2, 0)), mode="edge")[:-2, :-2]


def blurred(label: np.ndarray, num_classes: int) -> np.ndarray:
    shares = [cv2.GaussianBlur((label == k).astype(np.float32), (0, 0), 4) for k in range(num_classes)]
    return np.argmax(shares, axis=0).astype(np.uint8)


def coarse(label: np.ndarray, num_classes: int) -> np.ndarray:
    size = label.shape[1::-1]
    small = cv2.resize(label, (size[0] // 4, size[1] // 4), interpolation=cv2.INTER_NEAREST)
    return cv2.resize(small, size, interpolation=cv2.INTER_NEAREST)


class Scores:
    """Adds up confusion matrices, right pixels, and boundary F-scores at the original's tolerance and at 3 pixels."""

    def __init__(self):
        self.confusion, self.right, self.f = 0, [], []

    def add(self, found: np.ndarray, truth: np.ndarray, num_classes: int) -> None:
        self.confusion = self.confusion + np.asarray(confusion_matrix(truth, found, num_classes), np.int64)
        self.right.append(np.count_nonzero(found == truth))
        self.f.append([mean(f_scores(found, truth, num_classes, tolerance=t)) for t in (0.00088, 3)])

    def summary(self) -> tuple[float, float, float]:
        """Returns mIoU and the F-scores at both tolerances, in percent."""
        return 100 * scores(self.confusion)["miou"], *(100 * np.mean(self.f, axis=0))


if __name__ == "__main__":
    parser = harness.parser(__doc__, scale=2, iterations=1)
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help="of a SegFix net")
    parser.add_argument("--root", required=True, metavar="DIR", help="of SPLIT/image and SPLIT/label")
    parser.add_argument("--split", default="val")
    parser.add_argument("--classes", required=True, metavar="TABLE")
    parser.add_argument("--labels", type=Path, metavar="DIR", help="a net's label maps of the split")
    a = parser.parse_args()
    classes = load_classes(a.classes)
    source, count = FolderSource(a.root, a.split, classes), len(classes)
    runner, variables = offset_runner(a.checkpoint, source, batch_size=4)
    before, after = defaultdict(Scores), defaultdict(Scores)
    for item in track(runner.run(variables), "scoring", len(source)):
        truth = item.sample["label"]
        maps = {degrade.__name__: degrade(truth, count) for degrade in (shifted, blurred, coarse)}
        if a.labels:
            path = a.labels / f"{item.name}.png"
            maps["net"] = classes.encode(read_mask(path), str(path))
        for name, labels in maps.items():
            refined = np.asarray(refine(labels, item["offsets"], scale=a.scale, iterations=a.iterations))
            before[name].add(labels, truth, count)
            after[name].add(refined, truth, count)
    rows = []
    for name in before:
        (miou, f, wide), (miou_after, f_after, wide_after) = before[name].summary(), after[name].summary()
        row = {"labels": name, "mIoU": miou, "after": miou_after, "F, 1 pixel": f, "after ": f_after}
        row |= {"recovered, %": 100 * (f_after - f) / (100 - f), "F, 3 pixels": wide, "after  ": wide_after}
        rows.append(row | {"better": int(np.greater(after[name].right, before[name].right).sum())})
    harness.report(f"{len(source)} maps, scale {a.scale}, iterations {a.iterations}", rows, a.out)
