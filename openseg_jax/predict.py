"""Segments pictures of your own.

    python -m openseg_jax.predict --checkpoint=DIR street.jpg holiday/*.png --out=DIR

OUT receives label/NAME.png, a palette picture whose values are class ids, and overlay/NAME.jpg.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from rich.progress import track

from openseg_jax import sharding
from openseg_jax.checkpoints import load
from openseg_jax.data.classes import ClassTable
from openseg_jax.data.images import read_image, read_size
from openseg_jax.errors import InputError, run_command
from openseg_jax.evaluation import report
from openseg_jax.evaluation.inference import Evaluator


class PictureSource:
    """Pictures without masks, as a source of samples whose labels are all void."""

    def __init__(self, paths: list[Path]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def size(self, index: int) -> tuple[int, int]:
        return read_size(self.paths[index])

    def __getitem__(self, index: int) -> dict:
        image = read_image(self.paths[index])
        return {"image": image, "label": np.full(image.shape[:2], 255, np.uint8), "name": self.paths[index].stem}


def predict_pictures(checkpoint: str, paths: list[Path], out: Path, batch_size: int = 0, min_side: int = 0) -> None:
    """Writes label PNGs and overlays of all pictures, `batch_size` at a time; 0 is one per device."""
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"two of the pictures are called {twice}: their results would overwrite each other")
    model, variables, metadata = load(checkpoint)
    if model.head is not None and model.head.needs_labels:
        raise InputError(f"{model.spec.name} is told the labels, so it cannot predict pictures without")
    mesh = sharding.make_mesh()
    config = ConfigDict({"batch_size": batch_size or mesh.size, "max_buckets": 4, "min_side": min_side, "size": ()})
    source = PictureSource(paths)
    evaluator = Evaluator(model, config, source, metadata.normalization, mesh)
    classes = metadata.classes or ClassTable.from_dict(
        {"classes": [{"name": f"class {i}"} for i in range(model.spec.num_classes)]}, checkpoint
    )

    def write(index: int, ids: np.ndarray) -> None:
        report.write_prediction(out, names[index], ids, classes, read_image(paths[index]))

    evaluator.run(
        sharding.put_replicated(mesh, variables),
        on_prediction=write,
        progress=lambda batches, count: track(batches, "segmenting", count),
    )
    print(f"label/ and overlay/ of {len(paths)} pictures are in {out}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m openseg_jax.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help="of a training run, or imported")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    parser.add_argument("--batch-size", type=int, default=0, help="pictures at a time; 0 is one per device")
    parser.add_argument("--min-side", type=int, default=0, help="resize to this shorter side; 0 keeps the size")
    parser.add_argument("--verbose", action="store_true", help="show tracebacks")
    a = parser.parse_args()
    run_command(lambda: predict_pictures(a.checkpoint, a.images, a.out, a.batch_size, a.min_side), a.verbose)


if __name__ == "__main__":
    main()
