"""Evaluates images of many sizes: in a few padded shapes, with one program per size, and with PyTorch one by one.

    python -m benchmarks.evaluation --images 200 --scale 0.25 --batch 1 --repeats 2
    python -m benchmarks.evaluation --images 200 --scale 1 --hrnet 48 --dtype bfloat16     # on a GPU

The sizes are like those of ADE20K: a shorter side of 512 for most, three to four or two to three, either way up, and
some of any size; the net sees them with a shorter side of 520, as in the recipe of ADE20K, and logits are brought back
by cubic interpolation. Sizes are times --scale. "first" is the first evaluation, with compilation, "again" one after.
"""

import math
import os
import time

import cv2
import numpy as np

from benchmarks import harness
from openseg_jax.data.transforms import min_side_size

_SMALL = {"width": 16, "blocks": 2, "modules": (1, 1, 1), "layer1_blocks": 1, "layer1_width": 32}


def sizes(count: int, scale: float) -> list[tuple[int, int]]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        short = 512 if rng.random() < 0.7 else int(rng.integers(256, 900))
        aspect = rng.choice([4 / 3, 3 / 2, 1.0]) if rng.random() < 0.7 else rng.uniform(1, 2)
        size = int(scale * short), int(scale * short * aspect)
        found.append(size if rng.random() < 0.7 else size[::-1])
    return found


def images(settings: dict) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (h, w, 3)).astype(np.uint8) for h, w in sizes(settings["images"], settings["scale"])]


def net_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return min_side_size(*size, int(520 * scale))


def _ours(settings: dict, exact: bool) -> dict:
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    from openseg_jax import models, sharding
    from openseg_jax.config import EvalSettings
    from openseg_jax.data.normalize import Normalization
    from openseg_jax.data.sources import ArraySource
    from openseg_jax.inference import ArgMax, ConfusionCounts, Runner
    from openseg_jax.metrics.confusion import Confusion

    model = models.create(f"hrnet_w{settings['hrnet']}_ocr", 150, dtype=settings["dtype"])
    options = {"batch_size": 1 if exact else settings["batch"], "min_side": int(520 * settings["scale"])}
    eval_settings = EvalSettings(exact_shapes=exact, **options)
    mesh = sharding.make_mesh()
    variables = sharding.put_replicated(mesh, models.init(model))
    readers = {"labels": ArgMax(), "counts": ConfusionCounts(150)}
    runner = Runner(model, ArraySource(images(settings)), eval_settings, readers, Normalization(), mesh)

    def run():
        score = Confusion(150)
        for item in runner.run(variables):
            score.update(item)
        return score.result()

    start = time.perf_counter()
    run()
    shapes = [bucket.canvas[0] * bucket.canvas[1] * len(bucket.indices) for bucket in runner.buckets]
    pixels = sum(math.prod(net_size(size, settings["scale"])) for size in sizes(settings["images"], settings["scale"]))
    return {
        "run": run,
        "first_s": time.perf_counter() - start,
        "programs": len(runner.buckets),
        "padding": sum(shapes) / pixels - 1,
    }


def buckets(settings: dict) -> dict:
    return _ours(settings, exact=False)


def exact(settings: dict) -> dict:
    return _ours(settings, exact=True)


def pytorch(settings: dict) -> dict:
    import torch

    from benchmarks.torch_reference import HRNetOCR

    device = "cuda" if torch.cuda.is_available() else "cpu"
    options = _SMALL if settings["hrnet"] == "18_small_v1" else {"width": int(settings["hrnet"])}
    net = HRNetOCR(150, **options).eval().to(device, memory_format=torch.channels_last)
    found = images(settings)
    half = settings["dtype"] == "bfloat16"

    def run():
        total = torch.zeros(150 * 150, dtype=torch.long, device=device)
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=half):
            for image in found:
                size = net_size(image.shape[:2], settings["scale"])
                x = cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC)
                x = torch.from_numpy(x).to(device).permute(2, 0, 1)[None].float().div(255)
                logits = net(x.contiguous(memory_format=torch.channels_last))[-1].float()
                prediction = torch.nn.functional.interpolate(logits, image.shape[:2], mode="bicubic").argmax(1)
                total += torch.bincount(prediction.flatten(), minlength=150 * 150)
        return total.cpu()

    start = time.perf_counter()
    run()
    return {"run": run, "first_s": time.perf_counter() - start, "programs": 0, "padding": 0.0}


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--scale", type=float, default=1.0, help="a factor of all sizes")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--hrnet", default="18_small_v1", help="18_small_v1, 18, 48")
    parser.add_argument("--dtype", default="float32")
    a = parser.parse_args()
    settings = {key: getattr(a, key) for key in ("images", "scale", "batch", "hrnet", "dtype")}
    results = harness.compete({"buckets": buckets, "exact": exact, "pytorch": pytorch}, settings, repeats=a.repeats)
    rows = [
        {
            "": name,
            "programs": r["programs"],
            "padded pixels, %": 100 * r["padding"],
            "first, s": r["first_s"],
            "again, s": r["median_ms"] / 1000,
            "again / PyTorch": r["median_ms"] / results["pytorch"]["median_ms"],
        }
        for name, r in results.items()
    ]
    count = len({net_size(size, a.scale) for size in sizes(a.images, a.scale)})
    harness.report(f"{a.images} images, {count} sizes, HRNet {a.hrnet} + OCR", rows, a.out)


if __name__ == "__main__":
    main()
