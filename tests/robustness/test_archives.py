"""Damaged and hostile archives and pickles: what is read is what was packed, or one sentence says why not.

`FUZZ=20 pytest tests/robustness` tries twenty times as many.
"""

import io
import itertools
import pickle
import resource
import struct
import tarfile
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openseg_jax.data.building.archives import Archive, close_all
from openseg_jax.data.building.pickled_masks import read_masks
from openseg_jax.data.images import decode_mask
from openseg_jax.errors import InputError
from tests.data import archives
from tests.robustness import FUZZ, generator

PLAIN = {f"set/train/{i}.png": bytes([i]) * (300 * i) + np.random.default_rng(i).bytes(200) for i in range(4)}
NAMES = (
    "../../x.png", "/x.png", "a/../../../x.png", "n" * 300 + ".png", "line\nbreak.png", "\u202eright.png",
    "[/].png", "<b>.png", "..png", "C:\\x.png", "caf\xe9.png", ".png", "a//b.png", "a/./b.png",
)  # fmt: skip


def damaged(rng: np.random.Generator, content: bytes) -> bytes:
    """Returns the content with a bit flipped, bytes replaced, removed, repeated or put in, or cut off."""
    at, end = sorted(rng.integers(0, len(content), 2))
    end = min(end, at + 64)
    kind = rng.integers(6)
    if kind == 0:
        return content[:at] + bytes([content[at] ^ 1 << rng.integers(8)]) + content[at + 1 :]
    if kind == 1:
        return content[:at]
    some = [b"", content[at:end] * 2, rng.bytes(4), b"\xff" * int(end - at)][kind - 2]
    return content[:at] + some + content[end:]


def everything(path: Path, scratch: Path) -> dict[str, bytes]:
    """Reads all members, like builders that look for images, and those of the zips inside if there are no others."""
    try:
        archive = Archive(path, scratch)
        found = archive.find(r"([^/]*)\.png") or archive.find(r"([^/]*)\.jpg")
        return {key: member.read() for key, member in found.items()}
    finally:
        close_all()


class Tries:
    """Counts what becomes of inputs, which may neither take long nor leave anything outside of a folder."""

    def __init__(self, folder: Path):
        self.folder, self.right, self.refused = folder, 0, 0
        (folder / "in").mkdir(parents=True, exist_ok=True)
        self.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def __call__(self, name: str, content: bytes, read, accepted) -> None:
        path = self.folder / "in" / name
        path.write_bytes(content)
        start, reason = time.monotonic(), ""
        try:
            found = read(path)
        except InputError as error:
            reason = str(error)
        if reason:
            assert name in reason
            assert "\n" not in reason
        else:
            assert accepted(found), f"{path} gives other data"
        self.refused += bool(reason)
        self.right += not reason
        assert time.monotonic() - start < 5
        assert {entry.name for entry in self.folder.iterdir()} <= {"in", "scratch"}
        assert [entry.name for entry in (self.folder / "in").iterdir()] == [name]
        path.unlink()

    def summary(self) -> None:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.memory
        assert memory < 1 << 20  # kB
        print(f"{self.right + self.refused} inputs: {self.right} right, {self.refused} refused")


def packed(name: str, members: dict[str, bytes], folder: Path) -> bytes:
    archives.pack(folder / name, members)
    return (folder / name).read_bytes()


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar", "nested.zip"])
def test_damaged_archives(name, tmp_path):
    rng = generator(0)
    members = PLAIN if name != "nested.zip" else {"x/inner.zip": archives.zipped(PLAIN)}
    whole = packed(name, members, tmp_path)
    expected = {Path(key).stem: content for key, content in PLAIN.items()}
    tries = Tries(tmp_path / "folder")
    tries(name, whole, lambda path: everything(path, tmp_path / "folder" / "scratch"), expected.__eq__)
    assert tries.right
    headers = []
    if name == "a.tar":  # whose data have no checksum: that is for the images to notice
        with tarfile.open(tmp_path / name) as tar:
            headers = [info.offset + at for info in tar for at in range(512)]
    for _ in range(80 * FUZZ):
        if headers:
            at = rng.choice(headers)
            content = whole[:at] + bytes([whole[at] ^ 1 << rng.integers(8)]) + whole[at + 1 :]
            content = whole[:at] if rng.random() < 0.2 else content
        else:
            content = damaged(rng, whole)
        tries(name, content, lambda path: everything(path, tmp_path / "folder" / "scratch"), expected.__eq__)
    tries.summary()


# ---------------------------------------------------------------------------------------------------------------------
# Archives that someone made with care


def hostile_zip(rng: np.random.Generator) -> tuple[bytes, dict[str, bytes]]:
    """Returns a zip, and the members that may be read from it, by name."""
    file, content, allowed = io.BytesIO(), rng.bytes(int(rng.integers(0, 900))), {}
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings(action="ignore"):  # of equal names
        for _ in range(rng.integers(1, 4)):
            info = zipfile.ZipInfo(str(rng.choice(NAMES)))
            info.compress_type = int(rng.choice([0, 8, 12, 14]))
            if rng.random() < 0.2:
                info.external_attr = 0o120777 << 16  # a link
            archive.writestr(info, content)
            allowed[info.filename] = content
        if rng.random() < 0.3:
            archive.writestr("inner.zip", file.getvalue())
    data = bytearray(file.getvalue())
    place = data.rfind(b"PK\x01\x02")
    if (kind := rng.integers(8)) < 6:  # flags, method, CRC, sizes, or where the data begin
        offset, width = [(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (42, 4)][kind]
        value = int(rng.choice([0, 1, 99, 0x7FFFFFFF, 0xFFFFFFFF])) & (1 << 8 * width) - 1
        data[place + offset : place + offset + width] = value.to_bytes(width, "little")
    return bytes(data), allowed


def hostile_tar(rng: np.random.Generator) -> tuple[bytes, dict[str, bytes]]:
    """Returns a tar like `hostile_zip`, with links, devices and sizes that cannot be."""
    file, content = io.BytesIO(), rng.bytes(int(rng.integers(0, 900)))
    types = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE
    with tarfile.open(fileobj=file, mode="w", format=rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])) as archive:
        for _ in range(rng.integers(1, 6)):
            info = tarfile.TarInfo(str(rng.choice(NAMES)))
            info.type = types[rng.integers(len(types))]
            info.linkname = str(rng.choice((*NAMES, "/etc/passwd", "../../../etc/passwd")))
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content))
    data = bytearray(file.getvalue())
    if rng.random() < 0.3:  # another size in the first header, negative or enormous, with the right checksum
        size = rng.choice([b"\xff" * 12, b"\x80" + b"\xff" * 11, b"77777777777\0", b"00000000000\0"])
        data[124:136] = size
        data[148:156] = b" " * 8
        data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    return bytes(data), dict.fromkeys(NAMES, content)


@pytest.mark.parametrize(("name", "make"), [("h.zip", hostile_zip), ("h.tar", hostile_tar)])
def test_hostile_archives(name, make, tmp_path):
    rng, tries = generator(1), Tries(tmp_path / "folder")
    for _ in range(100 * FUZZ):
        content, allowed = make(rng)
        known = {Path(name).name.removesuffix(".png"): data for name, data in allowed.items()}

        def accepted(found, known=known):
            return all(known.get(key, data) == data for key, data in found.items())

        tries(name, content, lambda path: everything(path, tmp_path / "folder" / "scratch"), accepted)
    tries.summary()


def bomb(size: int, method: int = zipfile.ZIP_DEFLATED, name: str = "x.png") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, archive.open(name, "w", force_zip64=True) as member:
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))
    return file.getvalue()


def lying(content: bytes, size: int) -> bytes:
    """A zip that declares another size of its last member."""
    place = content.rfind(b"PK\x01\x02")
    return content[: place + 24] + struct.pack("<I", size) + content[place + 28 :]


def test_bombs(tmp_path):
    tries = Tries(tmp_path / "folder")
    quine = archives.zipped({"r.zip": b""})
    for _ in range(7):
        quine = archives.zipped({"r.zip": quine})
    inner = bomb(70 << 20, name="inner.zip")
    sparse = tarfile.TarInfo("x.png")
    sparse.type, sparse.pax_headers = tarfile.REGTYPE, {"GNU.sparse.major": "0", "GNU.sparse.size": str(1 << 38)}
    sparse.pax_headers |= {"GNU.sparse.minor": "1", "GNU.sparse.map": f"{(1 << 38) - 1},1", "GNU.sparse.name": "x.png"}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(sparse)
    bombs = {
        "big.zip": bomb(70 << 20), "bz2.zip": lying(bomb(30 << 20, zipfile.ZIP_BZIP2), 1000),
        "lzma.zip": lying(bomb(30 << 20, zipfile.ZIP_LZMA), 1000), "lies.zip": lying(bomb(30 << 20), 1000),
        "nested.zip": inner, "deep.zip": quine, "sparse.tar": file.getvalue(),
    }  # fmt: skip
    for name, content in bombs.items():
        tries(name, content, lambda path: everything(path, tmp_path / "folder" / "scratch"), lambda found: False)
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) < 100 << 20
    tries.summary()


def test_compressed_tar_that_is_a_bomb(tmp_path):
    import gzip

    tries = Tries(tmp_path / "folder")
    content = gzip.compress(bytes(80 << 20), 1)
    tries("big.tar.gz", content, lambda path: everything(path, tmp_path / "folder" / "scratch"), lambda found: False)
    tries.summary()


# ---------------------------------------------------------------------------------------------------------------------
# Pickles


def pickles() -> list[bytes]:
    """Files of masks as torch has written them, and in a newer protocol."""
    rng = generator(0)
    masks = {2008000008 + i: Image.fromarray(rng.integers(0, 60, (5, 7 + i), np.uint8)) for i in range(3)}
    legacy = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, masks, []]
    plain = b"".join(pickle.dumps(part, protocol=2) for part in legacy)
    return [
        plain,
        pickle.dumps(masks, protocol=4),
        archives.zipped({"train/data.pkl": pickle.dumps(masks, protocol=2)}),
    ]


def shapes(masks: dict[int, bytes]) -> bool:
    """Whether these may be the masks; the older files have no checksum, so that values may differ."""
    return all(decode_mask(png, "mask").size for png in masks.values())


def test_damaged_pickles(tmp_path):
    rng, tries = generator(2), Tries(tmp_path / "folder")
    for whole in pickles():
        (tmp_path / "whole.pth").write_bytes(whole)
        expected = read_masks(tmp_path / "whole.pth")
        assert len(expected) == 3
        accepted = expected.__eq__ if whole.startswith(b"PK") else shapes
        for _ in range(100 * FUZZ):
            tries("train.pth", damaged(rng, whole), read_masks, accepted)
    tries.summary()


def random_pickle(rng: np.random.Generator) -> bytes:
    """Operations in any order, many with large arguments."""
    codes = [code for name, code in sorted(vars(pickle).items()) if name.isupper() and isinstance(code, bytes)]
    parts = [b"\x80\x02"]
    for _ in range(rng.integers(1, 30)):
        parts.append(codes[rng.integers(len(codes))])
        argument = [b"", b"\x01", b"\xff\xff\xff\x7f", b"\xff" * 8, b"cPIL.Image\nImage\n", b"K\x07", b"5\n", b"\0" * 4]
        parts.append(argument[rng.integers(len(argument))])
    return b"".join(parts) + b"."


def test_hostile_pickles(tmp_path):
    rng, tries = generator(3), Tries(tmp_path / "folder")
    nested = b"\x80\x02}K\x01" + b")" + b"\x85" * 500_000 + b"q\x00" + b"sh\x00N" + b"s."
    doubling = b"}(" + b")" + b"q\x00" + b"".join(b"h\x00h\x00\x86q\x00" for _ in range(60)) + b"h\x00Nu."
    texts = itertools.chain(
        (
            b"\x80\x02}r\xff\xff\xff\x7f.",
            b"\x8d\xff\xff\xff\xff\0\0\0\0.",
            b"\x96\0\0\0\x80\0\0\0\0.",
            nested,
            doubling,
        ),
        (
            b"\x80\x02\x8b\xff\xff\xff\x7f.",
            b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN.",
            b"N." * 500_000,
            b"]" * 10**6 + b".",
        ),
        (random_pickle(rng) for _ in range(200 * FUZZ)),
    )
    for content in texts:
        tries("train.pth", content, read_masks, lambda found: False)
    tries.summary()
