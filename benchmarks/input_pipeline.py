"""The input pipeline: training samples per second and core, compared with a PyTorch DataLoader that does the same.

    python -m benchmarks.input_pipeline

There are two kinds of data, made in a temporary folder: "png" are 1024x2048 PNGs with PNG labels, cropped to 512x1024,
as in Cityscapes; "jpeg" are 512x683 JPEGs with PNG labels, cropped to 520x520, as in ADE20K. The work is random resize
(0.5 to 2, aspect 0.9 to 1.1), random crop, flip, brightness, and normalisation. The PyTorch Dataset does it with
OpenCV, as the original does. Every contestant runs on one core.

"host" does everything on the CPU except the normalisation, which the device does; "cache" reads decoded pixels;
"device" leaves the resampling to the device too, and the time is that of the host's part. The last table is the
device's part, on whatever device there is.
"""

import functools
import itertools
import os
import random
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks import harness
from openseg_jax.data import CachedSource, FolderSource, SyntheticSource
from openseg_jax.data.augmentation import Augmentation
from openseg_jax.data.collate import Collate
from openseg_jax.data.images import write_image, write_mask
from openseg_jax.data.on_device import RawSamples
from openseg_jax.data.pipeline import TrainSamples, train_batches

KINDS = {
    "png": {"size": (1024, 2048), "crop": (512, 1024), "canvas": (1088, 2176), "suffix": "png"},
    "jpeg": {"size": (512, 683), "crop": (520, 520), "canvas": (1088, 1088), "suffix": "jpg"},
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_data(root: Path, size, suffix: str, count: int = 12) -> None:
    scenes = SyntheticSource("train", count, size)
    for i in range(count):
        sample = scenes[i]
        write_image(root / "train" / "image" / f"{i}.{suffix}", cv2.GaussianBlur(sample["image"], (0, 0), 2))
        write_mask(root / "train" / "label" / f"{i}.png", sample["label"], np.zeros((256, 3), np.uint8))


def on_one_core() -> None:
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    cv2.setNumThreads(1)


def train_samples(source, crop, batch_size: int) -> TrainSamples:
    return TrainSamples(source, Augmentation(crop=crop), Collate(size=crop), seed=0, batch_size=batch_size)


def ours(settings: dict, *, cache: bool, device: bool) -> dict:
    on_one_core()
    kind = KINDS[settings["kind"]]
    source = FolderSource(settings["root"], "train", SyntheticSource.classes)
    if cache:
        source = CachedSource(source, Path(settings["root"]) / "cache")
    samples = train_samples(source, kind["crop"], settings["batch_size"])
    rows = RawSamples(samples, kind["canvas"]) if device else samples
    positions = itertools.count()

    def run():
        # The threads of `train_batches` would load ahead while others are timed.
        for _ in range(settings["batches"]):
            batch = [rows[position] for position in itertools.islice(positions, settings["batch_size"])]
            {key: np.stack([row[key] for row in batch]) for key in batch[0]}

    return {"run": run}


def pytorch(settings: dict) -> dict:
    import torch

    on_one_core()
    torch.set_num_threads(1)
    kind = KINDS[settings["kind"]]
    root = Path(settings["root"]) / "train"
    files = sorted((root / "image").iterdir())

    class Samples(torch.utils.data.Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, index):
            image = cv2.imread(str(files[index]))
            label = np.asarray(Image.open(root / "label" / f"{files[index].stem}.png"))
            scale, aspect = random.uniform(0.5, 2.0), random.uniform(0.9, 1.1)
            width, height = int(image.shape[1] * aspect**0.5 * scale), int(image.shape[0] * aspect**-0.5 * scale)
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
            label = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
            h, w = min(kind["crop"][0], height), min(kind["crop"][1], width)
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            image, label = image[top : top + h, left : left + w], label[top : top + h, left : left + w]
            if random.random() < 0.5:
                image, label = cv2.flip(image, 1), cv2.flip(label, 1)
            image = np.clip(image.astype(np.float32) + random.randint(-10, 10), 0, 255).astype(np.uint8)
            image = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)).div_(255)
            for channel, mean, std in zip(image, MEAN, STD, strict=True):
                channel.sub_(mean).div_(std)
            label = torch.from_numpy(label.astype(np.int64))
            label[label == 255] = -1
            left, top = random.randint(0, kind["crop"][1] - w), random.randint(0, kind["crop"][0] - h)
            pad = left, kind["crop"][1] - w - left, top, kind["crop"][0] - h - top
            return torch.nn.functional.pad(image, pad), torch.nn.functional.pad(label, pad, value=-1)

    loader = torch.utils.data.DataLoader(Samples(), batch_size=settings["batch_size"], shuffle=True)
    batches = itertools.chain.from_iterable(itertools.repeat(loader))

    def run():
        for _ in range(settings["batches"]):
            next(batches)

    return {"run": run}


CONTESTANTS = {
    "PyTorch DataLoader": pytorch,
    "host": functools.partial(ours, cache=False, device=False),
    "host, cache": functools.partial(ours, cache=True, device=False),
    "device": functools.partial(ours, cache=False, device=True),
    "device, cache": functools.partial(ours, cache=True, device=True),
}


def device_part(settings: dict, repeats: int) -> dict:
    """Measures how many milliseconds the device takes for a batch."""
    import jax

    from openseg_jax.data.on_device import augment

    kind = KINDS[settings["kind"]]
    source = FolderSource(settings["root"], "train", SyntheticSource.classes)
    samples = train_samples(source, kind["crop"], settings["batch_size"])
    batch = jax.device_put(next(train_batches(RawSamples(samples, kind["canvas"]))))
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        jax.block_until_ready(augment(batch, size=kind["crop"]))
        times.append(1000 * (time.perf_counter() - start))
    milliseconds = sorted(times[2:])[repeats // 2]
    return {
        "data": settings["kind"],
        "device": str(jax.devices()[0]),
        "batch": settings["batch_size"],
        "ms per batch": milliseconds,
        "samples/s": 1000 * settings["batch_size"] / milliseconds,
    }


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--batches", type=int, default=3, help="batches in a timed run")
    arguments = parser.parse_args()
    rows, device_rows = [], []
    for name, kind in KINDS.items():
        with tempfile.TemporaryDirectory() as root:
            make_data(Path(root), kind["size"], kind["suffix"])
            settings = {"kind": name, "root": root, "batch_size": arguments.batch_size, "batches": arguments.batches}
            results = harness.compete(CONTESTANTS, settings, repeats=arguments.repeats)
            device_rows.append(device_part(settings, arguments.repeats))
        count = arguments.batch_size * arguments.batches
        speeds = {contestant: 1000 * count / found["median_ms"] for contestant, found in results.items()}
        rows += [
            {"data": name, "pipeline": c, "samples/s per core": s, "of PyTorch": s / speeds["PyTorch DataLoader"]}
            for c, s in speeds.items()
        ]
    harness.report("The device's part", device_rows, None)
    harness.report("Input pipeline", rows, arguments.out)


if __name__ == "__main__":
    main()
