"""Times what it costs that images and masks are checked, byte by byte, before they are decoded, on one core.

    python -m benchmarks.reading

"checked" is what this project does; "decoder alone" is OpenCV for images and Pillow for masks, as they come. The files
are those of a synthetic scene with the noise of a camera. Both read the same bytes in turn, in one process; the best
time of each counts.
"""

import io
import time

import cv2
import numpy as np
from PIL import Image

from benchmarks import harness
from openseg_jax.data import SyntheticSource
from openseg_jax.data.images import decode_image, decode_mask


def files(size: tuple[int, int]) -> dict[str, bytes]:
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


def measure(name: str, content: bytes, repeats: int) -> list[dict]:
    if name.startswith("mask"):
        ways = {"decoder alone": lambda: np.asarray(Image.open(io.BytesIO(content))),
                "checked": lambda: decode_mask(content, name)}  # fmt: skip
    else:
        stored = np.frombuffer(content, np.uint8)
        ways = {"decoder alone": lambda: cv2.imdecode(stored, cv2.IMREAD_COLOR_RGB),
                "checked": lambda: decode_image(content, name)}  # fmt: skip
    np.testing.assert_array_equal(*(read() for read in ways.values()))
    times = {way: [] for way in ways}
    for _ in range(repeats):
        for way, read in ways.items():
            start = time.perf_counter()
            read()
            times[way].append(1000 * (time.perf_counter() - start))
    alone = min(times["decoder alone"])
    return [
        {"file": name, "read": way, "kB": len(content) // 1000, "ms": (ms := min(found)), "time": ms / alone}
        for way, found in times.items()
    ]


if __name__ == "__main__":
    a = harness.parser(__doc__, height=1024, width=2048).parse_args()
    cv2.setNumThreads(1)
    rows = [
        row
        for name, content in files((a.height, a.width)).items()
        for row in measure(name, content, max(a.repeats, 50))
    ]
    harness.report(f"Reading files of {a.height}x{a.width}", rows, a.out)
