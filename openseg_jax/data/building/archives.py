"""Archives as names and bytes, be it a zip, a tar, a zip inside a zip, an unpacked folder or a single file.

What an archive says about itself is compared with its size before anything is read, so that a small file takes little
memory, disk and time. Nothing is unpacked under a name that an archive gives.
"""

import contextlib
import dataclasses
import errno
import functools
import gzip
import hashlib
import itertools
import lzma
import os
import posixpath
import re
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from openseg_jax.errors import InputError
from openseg_jax.files import read_bytes
from openseg_jax.text import one_line

LARGEST = 256 << 20  # bytes of a file that is read as a whole; the largest images of the benchmarks have 30 MB
# Images hardly shrink, and lists of names by a factor of 10. Masks of one value that are not compressed themselves
# shrink a thousandfold, but they are small.
_RATIO, _ANYWAY = 100, 64 << 20
_DEPTH = 4  # of archives inside archives
_JUNK = re.compile(r"(?:.*/)?(?:__MACOSX/.*|\._[^/]*)", re.DOTALL)  # what macOS adds to archives
_FULL = (errno.ENOSPC, errno.EDQUOT)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
# What the libraries raise on archives that are damaged or made to do harm.
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, OverflowError,
    RuntimeError, MemoryError, KeyError, IndexError, TypeError,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Member:
    """One file of an archive, which is a zip, an uncompressed tar or a folder."""

    archive: Path
    name: str
    title: str  # what errors call the archive, which may be inside another one

    def __str__(self) -> str:
        return one_line(f"{self.title}: {self.name}")

    def read(self) -> bytes:
        """Reads the file; raises InputError if it is damaged, gone, or larger than anything that is needed."""
        with explained(self):
            if self.archive.is_dir():
                path = self.archive / self.name
                self._check_size(path.stat().st_size)
                return read_bytes(path)
            packed = _handle(self.archive)
            size = packed.size(self.name)
            self._check_size(size)
            content = b"".join(packed.chunks(self.name))
            if len(content) != size:
                raise EOFError(f"{len(content)} of {size} bytes")
            return content

    def _check_size(self, size: int) -> None:
        if size > LARGEST:
            raise InputError(f"{self} has {size} bytes, and an image or a list may have {LARGEST >> 20} MB: remove it")


class Archive:
    """The members of one archive.

    Args:
        path: A file, or a folder, of which only what lies under `tops` belongs to the archive.
        scratch: A folder for copies of what allows no random access: a compressed tar, or a zip inside an archive. The
            folder that holds it is no part of an archive.
        tops: Folders below a folder `path`.

    Raises:
        InputError: The archive is damaged, or a folder leads back into itself.
    """

    def __init__(self, path: Path, scratch: Path, tops: tuple[str, ...] = ("",)):
        self.path, folder = path, path if path.is_dir() else path.parent
        holder, names = folder, [path.name]  # what gives the members, and their names in it
        with explained(path):
            if path.is_dir():
                own = os.path.realpath(scratch.parent)
                found = itertools.chain(*(_files(path / top, own) for top in tops if (path / top).exists()))
                names = sorted(file.relative_to(path).as_posix() for file in found)
            digest, size = _stamp(folder, names)
            self._copies = _Copies(scratch, max(_ANYWAY, _RATIO * size))
            if not path.is_dir() and path.name.endswith((".zip", ".tar", ".tar.gz", ".tgz")):
                holder = path
                if path.suffix in (".gz", ".tgz"):
                    with gzip.open(path) as compressed:
                        holder = self._copies.add(_chunks(compressed), ".tar", path)
                names = _handle(holder).names()
        self.members = _members(holder, names, str(path))
        # Distinguishes one download from another, and a folder from the same one with other files.
        self.fingerprint = f"{path.name} ({len(self.members)} files, {size} bytes, {digest})"

    def find(self, pattern: str, name: str = r"\1") -> dict[str, Member]:
        """Finds members by a regular expression for the end of their path.

        The result is by `name`, a template into which the groups of a match are filled in. The zips inside the archive
        are searched only if nothing else matches.

        Raises:
            InputError: Two members have the same name.
        """
        expression = re.compile(rf"(?:.*/)?{pattern}", re.DOTALL)
        found: dict[str, Member] = {}
        for members in (lambda: self.members, lambda: self._inner):
            for member in members():
                if match := expression.fullmatch(member.name):
                    key = match.expand(name)
                    if other := found.get(key):
                        both = f"{other.name} and {member.name}"
                        raise InputError(one_line(f"{self.path} holds {key} twice, {both}: remove one of them"))
                    found[key] = member
            if found:
                break
        return found

    def lines(self, path: str) -> list[str]:
        """Reads the lines of the text file whose path ends in `path`; raises InputError if there is none."""
        found = self.find(f"()({re.escape(path)})")
        if not found:
            raise InputError(f"{self.path} has no {path}, so it is not the archive that is needed, or not all of it")
        try:
            return found[""].read().decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"{found['']} is not a UTF-8 text file: {error}") from error

    @functools.cached_property
    def _inner(self) -> list[Member]:
        """The members of the zips inside the archive, and of those inside them."""
        found, level = [], self.members
        for _ in range(_DEPTH):
            level = [inner for member in level if member.name.endswith(".zip") for inner in self._unpack(member)]
            found += level
        if deep := next((member for member in level if member.name.endswith(".zip")), None):
            raise InputError(f"{deep} is a zip inside of {_DEPTH} others: unpack them, and give the folder")
        return found

    def _unpack(self, member: Member) -> list[Member]:
        with explained(member):
            path = member.archive / member.name
            if not member.archive.is_dir():
                _handle(member.archive).size(member.name)
                path = self._copies.add(_handle(member.archive).chunks(member.name), ".zip", member)
            return _members(path, _handle(path).names(), str(member))


def _members(archive: Path, names: Iterable[str], title: str) -> list[Member]:
    return [Member(archive, name, title) for name in names if not _JUNK.fullmatch(name)]


class _Copies:
    """Copies in files of a folder, together at most `left` bytes."""

    def __init__(self, folder: Path, left: int):
        self.folder, self.left = folder, left

    def add(self, chunks: Iterable[bytes], suffix: str, what: Path | Member) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        number, path = tempfile.mkstemp(suffix, dir=self.folder)
        with open(number, "wb") as copy:
            for chunk in chunks:
                self.left -= len(chunk)
                if self.left < 0:
                    raise InputError(
                        f"{what} becomes more than {_RATIO} times as large when it is unpacked, as no archive of "
                        "images does: download it again, or unpack it yourself and give the folder"
                    )
                copy.write(chunk)
        return Path(path)


def close_all() -> None:
    """Closes the archives that this process has opened."""
    for handle in _handles.values():
        handle.close()
    _handles.clear()


# Each process opens an archive once.
_handles: "dict[Path, Zip | _Tar]" = {}


def _handle(path: Path) -> "Zip | _Tar":
    if path not in _handles:
        _handles[path] = Zip(path) if path.suffix == ".zip" else _Tar(path)
    return _handles[path]


class _UnusableError(Exception):
    """Says why a member cannot be read although the archive is whole."""


class Zip:
    """The files of a zip."""

    def __init__(self, path: Path):
        self.path, self.zip = path, zipfile.ZipFile(path)
        self.close = self.zip.close

    def names(self) -> list[str]:
        """Returns the names of the files, each of which stands before the file, too: the list has no checksum."""
        infos = self.zip.infolist()
        with self.path.open("rb") as file:
            file.seek(-22 - len(self.zip.comment), os.SEEK_END)
            count = int.from_bytes(file.read(22)[10:12], "little")
            if count != 0xFFFF and count != len(infos) % 0x10000:  # it stands elsewhere, or has overflown
                raise zipfile.BadZipFile(f"it lists {len(infos)} of {count} files")
            for info in infos:
                name = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
                file.seek(info.header_offset)
                header = file.read(30 + len(name))
                if header[:4] != b"PK\3\4" or header[26:28] != len(name).to_bytes(2, "little") or header[30:] != name:
                    raise zipfile.BadZipFile(f"there is another file in place of {info.filename!r}")
        return [info.filename for info in infos if not info.is_dir()]

    def size(self, name: str) -> int:
        """Returns the number of bytes of a file; raises InputError if there cannot be so many."""
        info = self.zip.getinfo(name)
        packed = min(info.compress_size, self.path.stat().st_size)
        if info.file_size > max(_ANYWAY, _RATIO * packed):
            raise _UnusableError(f"its {packed} bytes would become {info.file_size}")
        return info.file_size

    def open(self, name: str) -> IO[bytes]:
        info = self.zip.getinfo(name)
        if info.flag_bits & 1:
            raise _UnusableError("it is encrypted")
        if info.compress_type not in _METHODS:
            raise _UnusableError(f"it is compressed by the method {info.compress_type}, which is not known here")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise _UnusableError("it is a link")
        return self.zip.open(info)

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yields the content of a file."""
        # zipfile unpacks what it has read of these at once: 4 kB become 80 MB at most.
        unbounded = self.zip.getinfo(name).compress_type in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
        return _chunks(self.open(name), 1 << 12 if unbounded else 1 << 16)


class _Tar:
    """The files of a tar. Of several members of one name the last counts, as tar has it."""

    def __init__(self, path: Path):
        with contextlib.ExitStack() as on_error:
            self.path, self.tar = path, on_error.enter_context(tarfile.open(path, "r:"))
            self.members = {info.name: info for info in self._infos() if not info.isdir()}
            # tarfile takes a damaged header for the end, which is a block of zeros.
            with path.open("rb") as file:
                file.seek(self.tar.offset)
                end = file.read(tarfile.BLOCKSIZE)
            if any(end) or not end:
                raise tarfile.ReadError(f"its end is missing at byte {self.tar.offset}")
            on_error.pop_all()
        self.close = self.tar.close

    def _infos(self) -> Iterator[tarfile.TarInfo]:
        before = -1
        while info := self.tar.next():
            if self.tar.offset <= before:
                raise tarfile.ReadError("a member has a negative size")
            before = self.tar.offset
            yield info

    def names(self) -> list[str]:
        return list(self.members)

    def size(self, name: str) -> int:
        """Returns the number of bytes of a file; raises InputError if there cannot be so many."""
        size = self._resolve(name).size
        if size > max(_ANYWAY, self.path.stat().st_size):  # a sparse file, which the archive holds in part
            raise _UnusableError(f"its {size} bytes are more than the archive has")
        return size

    def open(self, name: str) -> IO[bytes]:
        file = self.tar.extractfile(self._resolve(name))
        if file is None:
            raise _UnusableError("it is not a file")
        return file

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yields the content of a file."""
        return _chunks(self.open(name))

    def _resolve(self, name: str) -> tarfile.TarInfo:
        """Returns the file that a name or a link stands for, which lies in the same archive."""
        for _ in range(8):
            if name not in self.members:
                raise _UnusableError(f"it is a link to {name!r}, which is not in the archive")
            info = self.members[name]
            if not info.issym() and not info.islnk():
                if not info.isreg():
                    raise _UnusableError("it is a device or a pipe")
                return info
            folder = posixpath.dirname(name) if info.issym() else ""
            name = posixpath.normpath(posixpath.join(folder, info.linkname))
        raise _UnusableError("it is a link that leads to no file")


def _chunks(file: IO[bytes], size: int = 1 << 16) -> Iterator[bytes]:
    with file:
        while chunk := file.read(size):
            yield chunk


def _files(folder: Path, own: str, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yields the files below a folder, links and pipes among them, but nothing of the folder `own`."""
    real = os.path.realpath(folder)
    if real in above:
        raise InputError(f"{folder} is a link to a folder that holds the link: remove it")
    for path in () if real == own else folder.iterdir():
        if path.is_dir():
            yield from _files(path, own, (*above, real))
        else:
            yield path


def _stamp(folder: Path, names: Iterable[str]) -> tuple[str, int]:
    """Returns a digest of the names, sizes and times of files, and the sum of their sizes."""
    digest, total = hashlib.sha256(), 0
    for name in names:
        size, time = 0, 0
        with contextlib.suppress(OSError):  # a link that leads nowhere, which matters only if it is needed
            status = (folder / name).stat()
            size, time = status.st_size, status.st_mtime_ns
        digest.update(f"{name!a} {size} {time}\n".encode())
        total += size
    return digest.hexdigest()[:16], total


@contextlib.contextmanager
def explained(what: Path | Member) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except _UnusableError as error:
        raise InputError(f"{what} cannot be read, because {error}: unpack the archive, and give the folder") from error
    except OSError as error:
        if error.errno in _FULL:  # the builder explains that
            raise
        if error.errno in (None, errno.EINVAL):  # gzip and bz2 say it so, and zipfile goes to places that cannot be
            raise _damaged(what, error) from error
        where = what if isinstance(what, Member) else error.filename or what
        raise InputError(f"cannot read {where}: {error.strerror}") from error
    except _DAMAGE as error:
        raise _damaged(what, error) from error


def _damaged(what: Path | Member, error: Exception) -> InputError:
    reason = one_line(str(error)) or type(error).__name__
    return InputError(f"{what} is damaged or truncated ({reason}): download the archive again")
