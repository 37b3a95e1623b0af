"""The input pipeline: training samples per second and core, compared with a PyTorch DataLoader that does the same.

    python -m benchmarks.input_pipeline

There are two kinds of data, made in a temporary folder: "png" are 1024x2048 PNGs with PNG labels, cropped to 512x1024,
as in Cityscapes; "jpeg" are 512x683 JPEGs with PNG labels, cropped to 520x520, as in ADE20K. The work is random resize
(0.5 to 2, aspect 0.9 to 1.1), random crop, flip, brightness, and normalisation. The PyTorch Dataset does it with
OpenCV, as the original does. Every contestant runs on one core.

"host" does everything on the CPU except the normalisation, which the device does; "cache" reads decoded pixels;
"device" leaves the resampling to the device too, and the time is that of the host's part. The first table is the
device's part, on whatever device there is.
"""

import itertools
import os
import random
import tempfile
from collections import deque
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks import harness
from openseg_jax.data import CachedSource, FolderSource, SyntheticSource
from openseg_jax.data.augmentation import Augmentation
from openseg_jax.data.collate import Collate
from openseg_jax.data.images import write_image, write_mask
from openseg_jax.data.on_device import RawSamples, augment
from openseg_jax.data.pipeline import TrainSamples

KINDS = {
    "png": {"size": (1024, 2048), "crop": (512, 1024), "canvas": (1088, 2176)},
    "jpeg": {"size": (512, 683), "crop": (520, 520), "canvas": (1088, 1088)},
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_data(kind: str, root: str) -> None:
    scenes, folder = SyntheticSource("train", 12, KINDS[kind]["size"]), Path(root) / "train"
    for i in range(len(scenes)):
        sample = scenes[i]
        write_image(folder / "image" / f"{i}.{kind}", cv2.GaussianBlur(sample["image"], (0, 0), 2))
        write_mask(folder / "label" / f"{i}.png", sample["label"], np.zeros((256, 3), np.uint8))


def on_one_core() -> None:
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    cv2.setNumThreads(1)


def read_batches(settings, *, cache: bool, device: bool):
    """Yields the training batches, without the threads of `train_batches`, which would load while others are timed."""
    kind = KINDS[settings.kind]
    source = FolderSource(settings.root, "train", SyntheticSource.classes)
    if cache:
        source = CachedSource(source, Path(settings.root) / "cache")
    rows = TrainSamples(source, Augmentation(crop=kind["crop"]), Collate(size=kind["crop"]), 0, settings.batch_size)
    if device:
        rows = RawSamples(rows, kind["canvas"])
    for start in itertools.count(step=settings.batch_size):
        batch = [rows[start + row] for row in range(settings.batch_size)]
        yield {key: np.stack([row[key] for row in batch]) for key in batch[0]}


def ours(settings, *, cache: bool, device: bool) -> dict:
    on_one_core()
    batches = read_batches(settings, cache=cache, device=device)
    return {"run": lambda: deque(itertools.islice(batches, settings.batches), maxlen=0)}


def pytorch(settings) -> dict:
    import torch
    import torch.nn.functional as F

    on_one_core()
    torch.set_num_threads(1)
    crop = KINDS[settings.kind]["crop"]
    root = Path(settings.root) / "train"
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
            h, w = min(crop[0], height), min(crop[1], width)
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
            left, top = random.randint(0, crop[1] - w), random.randint(0, crop[0] - h)
            pad = left, crop[1] - w - left, top, crop[0] - h - top
            return F.pad(image, pad), F.pad(label, pad, value=-1)

    loader = torch.utils.data.DataLoader(Samples(), batch_size=settings.batch_size, shuffle=True)
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    return {"run": lambda: deque(itertools.islice(batches, settings.batches), maxlen=0)}


def device_part(settings) -> dict:
    import jax

    batch = jax.device_put(next(read_batches(settings, cache=False, device=True)))
    return harness.on_jax(lambda: augment(batch, size=KINDS[settings.kind]["crop"]))


CONTESTANTS = {
    "PyTorch DataLoader": pytorch,
    "host": partial(ours, cache=False, device=False),
    "host, cache": partial(ours, cache=True, device=False),
    "device": partial(ours, cache=False, device=True),
    "device, cache": partial(ours, cache=True, device=True),
}


if __name__ == "__main__":
    parser = harness.parser(__doc__, batch_size=4)
    parser.add_argument("--batches", type=int, default=3, help="batches in a timed run")
    a = parser.parse_args()
    results, of_device = [], []
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as root:
            make_data(kind, root)
            results += harness.compete(CONTESTANTS, a, work=a.batches * a.batch_size, kind=kind, root=root)
            of_device += harness.compete({"": device_part}, a, work=a.batch_size, kind=kind, root=root)
    headings = {"kind": "data", "device": "device", "batch_size": "batch", "ms": "ms per batch", "per_s": "samples/s"}
    harness.report("The device's part", of_device, None, **headings)
    headings = {"kind": "data", "name": "pipeline", "per_s": "samples/s per core", "speed": "of PyTorch"}
    harness.report("Input pipeline", results, a.out, **headings)
