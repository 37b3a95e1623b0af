"""Times what it costs that images, masks and checkpoints are checked, byte by byte, before they are used.

    python -m benchmarks.reading

"checked" is what this project does. "unchecked" is, for images and masks, OpenCV and Pillow alone, on one core; for the
checkpoints of an HRNet-W48 with OCR it is the same code without the comparison of checksums. Images are of a synthetic
scene with the noise of a camera. Both ways read the same bytes in turn, in one process; the best time of each counts.
"""

import contextlib
import functools
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
from PIL import Image

from benchmarks import harness
from openseg_jax import checkpoints, converters, models
from openseg_jax.converters import files
from openseg_jax.data import SyntheticSource
from openseg_jax.data.images import decode_image, decode_mask
from openseg_jax.data.normalize import Normalization


def images(size: tuple[int, int]) -> dict[str, bytes]:
    """Returns images and masks of one scene by what they are."""
    scene = SyntheticSource("train", 1, size)[0]
    noise = np.random.default_rng(0).normal(0, 3, scene["image"].shape)
    photo = np.clip(cv2.GaussianBlur(scene["image"], (0, 0), 2) + noise, 0, 255).astype(np.uint8)
    grey, palette = Image.fromarray(scene["label"]), Image.fromarray(scene["label"])
    palette.putpalette(bytes(range(256)) * 3)
    return {
        "mask, grey PNG": encoded(grey, "PNG"),
        "mask, palette PNG": encoded(palette, "PNG"),
        "mask, PNG by OpenCV": cv2.imencode(".png", scene["label"])[1].tobytes(),
        "image, PNG": encoded(Image.fromarray(photo), "PNG"),
        "image, JPEG": encoded(Image.fromarray(photo), "JPEG", quality=90),
    }


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def ways_of(name: str, content: bytes) -> dict[str, Callable]:
    """Returns how an image or a mask is read, without checks first."""
    if name.startswith("mask"):
        return {"unchecked": lambda: np.asarray(Image.open(io.BytesIO(content))),
                "checked": lambda: decode_mask(content, name)}  # fmt: skip
    stored = np.frombuffer(content, np.uint8)
    return {"unchecked": lambda: cv2.imdecode(stored, cv2.IMREAD_COLOR_RGB),
            "checked": lambda: decode_image(content, name)}  # fmt: skip


def ways_of_checkpoints(folder: Path) -> dict[str, dict[str, Callable]]:
    """Writes an HRNet-W48 with OCR in both forms, and returns how each is read."""
    model = models.create("hrnet_w48_ocr", 19)
    variables = models.init(model, 0)
    saved = checkpoints.Checkpoints(folder / "checkpoint")
    saved.save(variables, checkpoints.Metadata(model.spec.to_dict(), Normalization()))
    saved.close()
    converters.write_state_dict(converters.export_state_dict(variables, model), folder / "net.pth")

    def unchecked(module, name: str, replacement: Callable, read: Callable) -> Callable:
        def run():
            with mock.patch.object(module, name, replacement):
                read()

        return run

    load = functools.partial(checkpoints.load, folder / "checkpoint")
    load_file = functools.partial(converters.load, folder / "net.pth")
    return {
        "checkpoint": {
            "unchecked": unchecked(checkpoints, "_verified", lambda *_: contextlib.nullcontext(), load),
            "checked": load,
        },
        ".pth": {"unchecked": unchecked(files, "_check", lambda path: None, load_file), "checked": load_file},
    }


def measure(name: str, ways: dict[str, Callable], kilobytes: int, repeats: int) -> list[dict]:
    times = {way: [] for way in ways}
    for _ in range(repeats):
        for way, read in ways.items():
            start = time.perf_counter()
            read()
            times[way].append(1000 * (time.perf_counter() - start))
    alone = min(times["unchecked"])
    return [
        {"file": name, "read": way, "kB": kilobytes, "ms": (ms := min(found)), "time": ms / alone}
        for way, found in times.items()
    ]


if __name__ == "__main__":
    a = harness.parser(__doc__, height=1024, width=2048).parse_args()
    cv2.setNumThreads(1)
    rows = []
    for name, content in images((a.height, a.width)).items():
        ways = ways_of(name, content)
        np.testing.assert_array_equal(*(read() for read in ways.values()))
        rows += measure(name, ways, len(content) // 1000, max(a.repeats, 50))
    with tempfile.TemporaryDirectory() as folder:
        for name, ways in ways_of_checkpoints(Path(folder)).items():
            rows += measure(name, ways, 263_000, a.repeats)
    harness.report(f"Reading files of {a.height}x{a.width}", rows, a.out)
