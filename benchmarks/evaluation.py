"""Evaluates images of many sizes: in a few padded shapes, with one program per size, and with PyTorch one by one.

    python -m benchmarks.evaluation --images 200 --scale 0.25 --batch 1 --repeats 2
    python -m benchmarks.evaluation --images 200 --hrnet 48 --dtype bfloat16 --skip-exact     # on a GPU

The sizes are like those of ADE20K: a shorter side of 512 for most, three to four or two to three, either way up, and
some of any size; the net sees them with a shorter side of 520, as in the recipe of ADE20K, and logits are brought back
by cubic interpolation. Sizes are times --scale. "first" is the first evaluation, with compilation, "again" one after.
"""

import math
from functools import partial

import cv2
import numpy as np

from benchmarks import harness
from openseg_jax.data.transforms import min_side_size


def sizes(settings) -> list[tuple[int, int]]:
    rng, found = np.random.default_rng(0), []
    for _ in range(settings.images):
        short = 512 if rng.random() < 0.7 else int(rng.integers(256, 900))
        aspect = rng.choice([4 / 3, 3 / 2, 1.0]) if rng.random() < 0.7 else rng.uniform(1, 2)
        size = int(settings.scale * short), int(settings.scale * short * aspect)
        found.append(size if rng.random() < 0.7 else size[::-1])
    return found


def net_sizes(settings) -> list[tuple[int, int]]:
    return [min_side_size(*size, int(520 * settings.scale)) for size in sizes(settings)]


def images(settings) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes(settings)]


def ours(settings, *, exact: bool) -> dict:
    from openseg_jax import models, sharding
    from openseg_jax.config import EvalSettings
    from openseg_jax.data.normalize import Normalization
    from openseg_jax.data.sources import ArraySource
    from openseg_jax.inference import ArgMax, ConfusionCounts, Runner
    from openseg_jax.metrics.confusion import Confusion

    model = models.create(f"hrnet_w{settings.hrnet}_ocr", 150, dtype=settings.dtype)
    batch, min_side = 1 if exact else settings.batch, int(520 * settings.scale)
    eval_settings = EvalSettings(batch_size=batch, min_side=min_side, exact_shapes=exact)
    mesh = sharding.make_mesh()
    variables = sharding.put_replicated(mesh, models.init(model))
    readers = {"labels": ArgMax(), "counts": ConfusionCounts(150)}
    runner = Runner(model, ArraySource(images(settings)), eval_settings, readers, Normalization(), mesh)

    def run():
        score = Confusion(150)
        for item in runner.run(variables):
            score.update(item)
        return score.result()

    padded = sum(math.prod(bucket.canvas) * len(bucket.indices) for bucket in runner.buckets)
    padding = padded / sum(map(math.prod, net_sizes(settings))) - 1
    return harness.on_jax(run, programs=len(runner.buckets), padding=100 * padding)


def pytorch(settings) -> dict:
    import torch

    from benchmarks.torch_reference import HRNetOCR, options_of

    device, pairs = harness.torch_device(), list(zip(images(settings), net_sizes(settings), strict=True))
    net = HRNetOCR(150, **options_of(settings.hrnet)).eval().to(device, memory_format=torch.channels_last)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32, as in ours

    def run():
        total = torch.zeros(150 * 150, dtype=torch.long, device=device)
        half = torch.autocast(device, torch.bfloat16, enabled=settings.dtype == "bfloat16")
        with torch.inference_mode(), half:
            for image, size in pairs:
                x = cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC)
                x = torch.from_numpy(x).to(device).permute(2, 0, 1)[None].float().div(255)
                logits = net(x.contiguous(memory_format=torch.channels_last))[-1].float()
                prediction = torch.nn.functional.interpolate(logits, image.shape[:2], mode="bicubic").argmax(1)
                total += torch.bincount(prediction.flatten(), minlength=150 * 150)
        return total.cpu()

    return harness.on_torch(run, programs=0, padding=0.0)


def main() -> None:
    parser = harness.parser(__doc__, images=200, batch=4)
    parser.add_argument("--scale", type=float, default=1.0, help="a factor of all sizes")
    parser.add_argument("--hrnet", default="18_small_v1", choices=("18_small_v1", "18", "32", "48", "64"), help="width")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--skip-exact", action="store_true", help="leave out the contestant with a program per size")
    a = parser.parse_args()
    contestants = {"buckets": partial(ours, exact=False), "exact": partial(ours, exact=True), "pytorch": pytorch}
    if a.skip_exact:
        del contestants["exact"]
    title = f"{a.images} images, {len(set(net_sizes(a)))} sizes, HRNet {a.hrnet} + OCR, {a.dtype}"
    headings = {"name": "who", "device": "device", "programs": "programs", "padding": "padded pixels, %"}
    headings |= {"first_s": "first, s", "s": "again, s", "time": "again / PyTorch", "peak_mb": "peak MB"}
    found = harness.compete(contestants, a, keep=lambda found: harness.save(title, found, a.out, **headings))
    harness.report(title, found, a.out, **headings)


if __name__ == "__main__":
    main()
