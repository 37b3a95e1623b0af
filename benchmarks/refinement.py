"""Compares refinement of label maps with that of the original, in PyTorch, map by map.

    python -m benchmarks.refinement --maps 60
    taskset -c 0 python -m benchmarks.refinement     # on one core, as where there are as many processes as cores

The original turns ids into floats, interpolates between pixels that it finds in coordinates from -1 to 1, and rounds:
where steps are whole pixels, that gives the same maps. Offsets are unit steps around the borders of random regions.
"with files" also decodes and encodes PNGs and offsets in threads, as the command does.
"""

import functools
import math
import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmarks import harness

SIZES = {"1024 x 2048": (1024, 2048), "480 x 360": (360, 480)}
_STEPS = np.array([(0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1)], np.int8)
_DIFFERENT = 8  # maps, which are refined by turns


def drawn(settings: dict, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws a label map, uint8 (H, W), and offsets, int8 (H, W, 2)."""
    rng = np.random.default_rng(seed)
    height, width = settings["size"]

    def blocks(side: int, ids: int) -> np.ndarray:
        coarse = rng.integers(0, ids, (height // side + 1, width // side + 1)).astype(np.uint8)
        return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)

    labels = blocks(60, 19)
    border = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((9, 9))) > 0
    return labels, _STEPS[blocks(8, 8)] * border[..., None]


def jobs(settings: dict, load):
    """The arguments of `refine_all`: `maps` times `load(0)` to `load(_DIFFERENT - 1)`, by turns."""
    numbers = range(settings["maps"])
    loads = ((number, functools.partial(load, number % _DIFFERENT)) for number in numbers)
    return dict.fromkeys(numbers, settings["size"]), loads


def ours(settings: dict) -> dict:
    from openseg_jax.segfix.refinement import Loaded, refine_all

    maps = [Loaded(*drawn(settings, seed)) for seed in range(_DIFFERENT)]
    found = {}

    def run():
        for refined in refine_all(*jobs(settings, maps.__getitem__)):
            found[refined.key % _DIFFERENT] = refined.labels

    run()
    return {"run": run, "sums": [int(found[index].sum()) for index in range(_DIFFERENT)]}


def ours_with_files(settings: dict) -> dict:
    from openseg_jax.data.images import read_mask, write_image
    from openseg_jax.data.offset_files import read_offsets, write_offsets
    from openseg_jax.data.workers import in_threads
    from openseg_jax.segfix.refinement import Loaded, Refined, refine_all

    folder = Path(settings["folder"])
    for index in range(_DIFFERENT):
        labels, offsets = drawn(settings, index)
        write_image(folder / f"{index}.png", labels)
        write_offsets(folder / f"{index}.npz", offsets)

    def load(index: int) -> Loaded:
        return Loaded(read_mask(folder / f"{index}.png"), read_offsets(folder / f"{index}.npz"))

    def save(refined: Refined) -> None:
        write_image(folder / "out" / f"{refined.key}.png", refined.labels)

    def run():
        for _ in in_threads(save, refine_all(*jobs(settings, load))):
            pass

    run()
    return {"run": run, "sums": [int(read_mask(folder / "out" / f"{i}.png").sum()) for i in range(_DIFFERENT)]}


def pytorch(settings: dict) -> dict:
    import torch

    pairs = [drawn(settings, seed) for seed in range(_DIFFERENT)]
    height, width = settings["size"]
    rows, columns = torch.arange(height).float()[:, None], torch.arange(width).float()

    @torch.inference_mode()
    def refined(labels: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        steps = 2 * torch.from_numpy(offsets).float()
        y = (rows + steps[..., 0]) / ((height - 1) / 2) - 1
        x = (columns + steps[..., 1]) / ((width - 1) / 2) - 1
        maps, grid = torch.from_numpy(labels).float()[None, None], torch.stack([x, y], dim=-1)[None]
        options = {"mode": "bilinear", "padding_mode": "border", "align_corners": True}
        return torch.nn.functional.grid_sample(maps, grid, **options).round().byte()[0, 0].numpy()

    def run():
        for index in range(settings["maps"]):
            refined(*pairs[index % _DIFFERENT])

    return {"run": run, "sums": [int(refined(*pair).sum()) for pair in pairs]}


FILES = "ours, with files"
CONTESTANTS = {"PyTorch": pytorch, "ours": ours, FILES: ours_with_files}


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--maps", type=int, default=100, help="of 1024 x 2048 in a timed run; of others as many pixels")
    arguments = parser.parse_args()
    rows = []
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            count = arguments.maps * 1024 * 2048 // math.prod(size)
            settings = {"size": size, "maps": count, "folder": folder}
            results = harness.compete(CONTESTANTS, settings, repeats=arguments.repeats)
        if len({tuple(found["sums"]) for found in results.values()}) > 1:
            raise RuntimeError(f"the contestants disagree: {results}")
        speeds = {contestant: 1000 * count / found["median_ms"] for contestant, found in results.items()}
        rows += [
            {
                "size": name,
                "": contestant,
                "maps/s": speed,
                "of PyTorch": "" if contestant == FILES else speed / speeds["PyTorch"],
                "peak MB": results[contestant]["peak_mb"],
            }
            for contestant, speed in speeds.items()
        ]
    harness.report("Refining label maps", rows, arguments.out)


if __name__ == "__main__":
    main()
