"""Damaged images, masks and files of offsets: the right pixels or one sentence, quickly, in little memory.

FUZZ=N tries N times as many inputs; `pytest -s` shows how many were read and refused.
"""

import io
import resource
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from openseg_jax.data.images import decode_image, decode_mask, read_size
from openseg_jax.data.offset_files import read_offsets
from openseg_jax.errors import InputError
from openseg_jax.segfix.label_files import read_labels
from tests.robustness import FUZZ, generator

EACH = 24  # inputs of each file
RNG = np.random.default_rng(0)
NUMBERS = [0, 1, 2, 3, 4, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**31 - 1, 2**31, 2**32 - 1]


def mutations(rng: np.random.Generator, content: bytes) -> Iterator[bytes]:
    """Yields damaged contents: bits that flip, missing ends, bytes that are new, lost or moved, absurd sizes."""
    while True:
        new, kind = bytearray(content), int(rng.integers(8))
        a, b = sorted(rng.integers(0, len(content) + 1, 2).tolist())
        if kind <= 1:
            for at in rng.integers(0, len(new), 1 if kind else int(rng.integers(1, 20))):
                new[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del new[a:]
        elif kind == 3:
            new[a:a] = rng.bytes(int(rng.integers(1, 40)))
        elif kind == 4:
            del new[a:b]
        elif kind == 5:
            new[a:b] = bytes(b - a) if rng.integers(2) else rng.bytes(b - a)
        elif kind == 6:
            middle = (a + b) // 2
            new[a:b] = new[middle:b] + new[a:middle]
        else:
            width, order = int(rng.choice([2, 4])), str(rng.choice(["big", "little"]))
            at = int(rng.integers(0, min(len(new), 200)))
            new[at : at + width] = (int(rng.choice(NUMBERS)) % 256**width).to_bytes(width, order)
        if new != content:
            yield bytes(new)


# ---------------------------------------------------------------------------------------------------------------------
# What is damaged


def scene(mode: str) -> Image.Image:
    """Smooth in parts and noisy in parts, so that every way to compress has something to do."""
    ids = np.kron(RNG.integers(0, 19, (4, 5)), np.ones((8, 8))).astype(np.uint8)
    ids[:6] = RNG.integers(0, 19, (6, 40))
    if mode in ("L", "P", "1"):
        image = Image.fromarray(ids > 9) if mode == "1" else Image.fromarray(ids)
        if mode == "P":
            image.putpalette(RNG.bytes(768))
        return image
    if mode == "I;16":
        return Image.fromarray(ids.astype(np.uint16) * 200)
    return Image.fromarray(RNG.integers(0, 256, (19, 4)).astype(np.uint8)[ids]).convert(mode)


def saved(mode: str, kind: str, **options) -> bytes:
    file = io.BytesIO()
    scene(mode).save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112], found[0x010F] = orientation, "a maker"
    return found


def interlaced() -> bytes:
    """A PNG in Adam7: seven images, each a part of the pixels."""
    ids = np.asarray(scene("L"))
    parts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = (b"\0" + row.tobytes() for top, left, down, across in parts for row in ids[top::down, left::across])
    head = ids.shape[1].to_bytes(4) + ids.shape[0].to_bytes(4) + bytes([8, 0, 0, 0, 1])
    return png((b"IHDR", head), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    found = (len(body).to_bytes(4) + name + body + zlib.crc32(name + body).to_bytes(4) for name, body in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(found)


def offsets(kind: str, compressed: bool = True) -> bytes:
    file, found = io.BytesIO(), RNG.integers(-5, 6, (20, 30, 2)).astype(np.int32)
    if kind == "mat":
        scipy.io.savemat(file, {"mat": found}, do_compression=compressed)
    else:
        np.savez_compressed(file, offsets=found.astype(np.int8))
    return file.getvalue()


def masks(content: bytes, path: Path) -> np.ndarray:
    return decode_mask(content, str(path))


def colors(content: bytes, path: Path) -> np.ndarray:
    return decode_mask(content, str(path), colors=True)


def images(content: bytes, path: Path) -> np.ndarray:
    """Of a file that is read, its size is read, too, and is the same."""
    found = decode_image(content, str(path))
    assert read_size(io.BytesIO(content), str(path)) == found.shape[:2]
    return found


def labels(content: bytes, path: Path) -> np.ndarray:
    path.write_bytes(content)
    return read_labels(path).ids


def steps(content: bytes, path: Path) -> np.ndarray:
    path.write_bytes(content)
    return read_offsets(path)


WITH_CHECKSUMS = {
    **{f"mask-{mode}.png": (saved(mode, "PNG"), masks) for mode in ("L", "P", "1")},
    **{f"colors-{mode}.png": (saved(mode, "PNG"), colors) for mode in ("RGB", "RGBA", "P")},
    **{f"image-{mode}.png": (saved(mode, "PNG"), images) for mode in ("L", "P", "RGB", "RGBA", "LA", "I;16")},
    "labels-I16.png": (saved("I;16", "PNG"), labels),
    "labels-P.png": (saved("P", "PNG", transparency=3), labels),
    "turned.png": (saved("RGB", "PNG", exif=exif(6)), images),
    "interlaced.png": (interlaced(), masks),
    "offsets.npz": (offsets("npz"), steps),
    "offsets.mat": (offsets("mat"), steps),
}
WITHOUT = {  # or, as in deflated TIFFs, with one of the pixels but none of the header
    "deflate.tif": (saved("L", "TIFF", compression="tiff_adobe_deflate"), masks),
    "image.jpg": (saved("RGB", "JPEG"), images),
    "progressive.jpg": (saved("RGB", "JPEG", progressive=True), images),
    "turned.jpg": (saved("RGB", "JPEG", exif=exif(8)), images),
    "grey.jpg": (saved("L", "JPEG"), images),
    "image.bmp": (saved("RGB", "BMP"), images),
    **{f"mask-{mode}.bmp": (saved(mode, "BMP"), masks) for mode in ("L", "P", "1")},
    **{f"mask-{mode}.tif": (saved(mode, "TIFF"), masks) for mode in ("L", "P", "1")},
    "lzw.tif": (saved("L", "TIFF", compression="tiff_lzw"), masks),
    "packbits.tif": (saved("L", "TIFF", compression="packbits"), labels),
    "turned.tif": (saved("RGB", "TIFF", exif=exif(5)), images),
    "alpha.tif": (saved("RGBA", "TIFF"), images),
    "cmyk.tif": (saved("CMYK", "TIFF"), images),
    "tiles.tif": (saved("RGB", "TIFF", compression="tiff_lzw", tiffinfo={322: 16, 323: 16}), images),
    "image.gif": (saved("P", "GIF"), images),
    "image.webp": (saved("RGB", "WEBP", lossless=True), images),
    "stored.mat": (offsets("mat", compressed=False), steps),
}


@pytest.mark.parametrize("name", [*WITH_CHECKSUMS, *WITHOUT])
def test_damaged_files(name, tmp_path, capfd):
    content, read = {**WITH_CHECKSUMS, **WITHOUT}[name]
    path = tmp_path / name
    right, counts, sentences, before = read(content, path), Counter(), set(), peak_memory()
    damaged = mutations(generator(zlib.crc32(name.encode())), content)
    for number in range(EACH * FUZZ):
        start, case = time.perf_counter(), next(damaged)
        try:
            found = read(case, path)
            same = found.shape == right.shape and found.dtype == right.dtype and (found == right).all()
            counts["right" if same else "changed"] += 1
        except InputError as error:
            counts["refused"] += 1
            sentences.add(str(error))
        seconds = time.perf_counter() - start
        assert seconds < 5, f"input {number} took {seconds:.1f} s"
    assert peak_memory() - before < 1e9
    assert all(name in sentence and "\n" not in sentence for sentence in sentences)
    assert name in WITHOUT or not counts["changed"]
    capfd.readouterr()  # remarks of decoders
    with capfd.disabled():
        print(f"{name}: {counts.total()} inputs: {dict(counts)}")


def resealed(name: str, content: bytes, rng: np.random.Generator) -> bytes:
    """Returns a file of which a part is damaged and has a right checksum all the same, as a hostile one has."""
    if name.endswith(".png"):
        at, chunks = 8, []
        while at < len(content):
            length = int.from_bytes(content[at : at + 4])
            chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
            at += 12 + length
        place = int(rng.integers(len(chunks) - 1))
        kind, body = chunks[place]
        inside = kind == b"IDAT" and rng.integers(2)
        body = next(mutations(rng, zlib.decompress(body) if inside else body))
        chunks[place] = kind, zlib.compress(body) if inside else body
        return png(*chunks)
    if name.endswith(".mat"):
        body = zlib.compress(next(mutations(rng, zlib.decompress(content[136:]))))
        return content[:132] + len(body).to_bytes(4, "little") + body
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        body = archive.read("offsets.npy")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("offsets.npy", next(mutations(rng, body)))
    return file.getvalue()


@pytest.mark.parametrize("name", WITH_CHECKSUMS)
def test_hostile_files(name, tmp_path, capfd):
    """They may mean other pixels, but are read as quickly, in as little memory, and without other errors."""
    content, read = WITH_CHECKSUMS[name]
    rng, counts, before = generator(zlib.crc32(name.encode())), Counter(), peak_memory()
    for number in range(EACH * FUZZ):
        case, start = resealed(name, content, rng), time.perf_counter()
        try:
            read(case, tmp_path / name)
            counts["read"] += 1
        except InputError:
            counts["refused"] += 1
        seconds = time.perf_counter() - start
        assert seconds < 5, f"input {number} took {seconds:.1f} s"
    assert peak_memory() - before < 1e9
    capfd.readouterr()
    with capfd.disabled():
        print(f"{name}, hostile: {counts.total()} inputs: {dict(counts)}")


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
