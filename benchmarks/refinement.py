"""Compares refinement of label maps with that of the original, in PyTorch, map by map.

    python -m benchmarks.refinement --maps 60
    taskset -c 0 python -m benchmarks.refinement     # on one core, as where there are as many processes as cores

The original turns ids into floats, interpolates between pixels that it finds in coordinates from -1 to 1, and rounds:
where steps are whole pixels, that gives the same maps. Offsets are unit steps around the borders of random regions.
"with files" also decodes and encodes PNGs and offsets in threads, as the command does. On a GPU, every map goes there
and back.
"""

import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from benchmarks import harness

_STEPS = np.array([(0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1)], np.int8)
_DIFFERENT = 8  # maps, which are refined by turns


def drawn(settings) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draws label maps, uint8 (H, W), each with its offsets, int8 (H, W, 2)."""
    pairs, (height, width) = [], settings.size

    def blocks(rng: np.random.Generator, side: int, ids: int) -> np.ndarray:
        coarse = rng.integers(0, ids, (height // side + 1, width // side + 1), np.uint8)
        return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)

    for seed in range(min(_DIFFERENT, settings.count)):
        rng = np.random.default_rng(seed)
        labels = blocks(rng, 60, 19)
        border = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((9, 9))) > 0
        pairs.append((labels, _STEPS[blocks(rng, 8, 8)] * border[..., None]))
    return pairs


def refined(settings, load: Callable):
    """Refines `settings.count` maps: those of load(0) to load(_DIFFERENT - 1), by turns."""
    from openseg_jax.segfix.refinement import refine_all

    numbers = range(settings.count)
    return refine_all(dict.fromkeys(numbers, settings.size), ((n, partial(load, n % _DIFFERENT)) for n in numbers))


def ours(settings) -> dict:
    from openseg_jax.segfix.refinement import Loaded

    maps, found = [Loaded(*pair) for pair in drawn(settings)], {}

    def run():
        for result in refined(settings, maps.__getitem__):
            found[result.key % _DIFFERENT] = result.labels

    run()
    return harness.on_jax(run, sums=[int(labels.sum()) for labels in found.values()])


def ours_with_files(settings) -> dict:
    from openseg_jax.data.images import read_mask, write_image
    from openseg_jax.data.offset_files import read_offsets, write_offsets
    from openseg_jax.data.workers import in_threads
    from openseg_jax.segfix.refinement import Loaded

    folder, pairs = Path(settings.folder), drawn(settings)
    for index, (labels, offsets) in enumerate(pairs):
        write_image(folder / f"{index}.png", labels)
        write_offsets(folder / f"{index}.npz", offsets)

    def load(index: int) -> Loaded:
        return Loaded(read_mask(folder / f"{index}.png"), read_offsets(folder / f"{index}.npz"))

    def save(result) -> None:
        write_image(folder / "out" / f"{result.key}.png", result.labels)

    def run():
        for _ in in_threads(save, refined(settings, load)):
            pass

    run()
    return harness.on_jax(run, sums=[int(read_mask(folder / "out" / f"{i}.png").sum()) for i in range(len(pairs))])


def pytorch(settings) -> dict:
    import torch

    pairs, (height, width), device = drawn(settings), settings.size, harness.torch_device()
    rows, columns = torch.arange(height, device=device).float()[:, None], torch.arange(width, device=device).float()

    @torch.inference_mode()
    def refine(labels: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        steps = 2 * torch.from_numpy(offsets).to(device).float()
        y = (rows + steps[..., 0]) / ((height - 1) / 2) - 1
        x = (columns + steps[..., 1]) / ((width - 1) / 2) - 1
        maps, grid = torch.from_numpy(labels).to(device).float()[None, None], torch.stack([x, y], dim=-1)[None]
        options = {"mode": "bilinear", "padding_mode": "border", "align_corners": True}
        return torch.nn.functional.grid_sample(maps, grid, **options).round().byte()[0, 0].cpu().numpy()

    def run():
        for index in range(settings.count):
            refine(*pairs[index % _DIFFERENT])

    return harness.on_torch(run, sums=[int(refine(*pair).sum()) for pair in pairs])


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--maps", type=int, default=100, help="of 1024 x 2048 in a timed run; of others as many pixels")
    a, found = parser.parse_args(), []
    contestants = {"PyTorch": pytorch, "ours": ours, "ours, with files": ours_with_files}
    for shape, size in {"1024 x 2048": (1024, 2048), "480 x 360": (360, 480)}.items():
        count = a.maps * 1024 * 2048 // math.prod(size)
        with tempfile.TemporaryDirectory() as folder:
            results = harness.compete(contestants, a, work=count, shape=shape, size=size, count=count, folder=folder)
        if len({tuple(result["sums"]) for result in results if "sums" in result}) > 1:
            raise RuntimeError(f"the contestants disagree: {results}")
        results[-1]["speed"] = ""  # PyTorch reads and writes no files
        found += results
    headings = {"shape": "size", "name": "who", "device": "device", "per_s": "maps/s", "speed": "of PyTorch"}
    harness.report("Refining label maps", found, a.out, **headings, peak_mb="peak MB")


if __name__ == "__main__":
    main()
