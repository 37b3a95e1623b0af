"""Archives as names and bytes, be it a zip, a tar, a zip inside a zip, an unpacked folder or a single file."""

import contextlib
import dataclasses
import functools
import gzip
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from openseg_jax.errors import InputError

_JUNK = re.compile(r"(?:.*/)?(?:__MACOSX/.*|\._[^/]*)")  # what macOS adds to archives


@dataclasses.dataclass(frozen=True)
class Member:
    """One file of an archive, which is a zip, an uncompressed tar or a folder."""

    archive: Path
    name: str

    def __str__(self) -> str:
        return f"{self.archive}: {self.name}"

    def read(self) -> bytes:
        """Reads the file; raises InputError if it is damaged or gone."""
        with _explained(self), self.open() as file:
            return file.read()

    def open(self) -> IO[bytes]:
        """Opens the file."""
        if self.archive.is_dir():
            return (self.archive / self.name).open("rb")
        return _handle(self.archive).open(self.name)


class Archive:
    """The members of one archive.

    Args:
        path: A file, or a folder, of which only what lies under `tops` belongs to the archive.
        scratch: A folder for copies of what allows no random access: a compressed tar, or a zip inside an archive.
        tops: Folders below a folder `path`.
    """

    def __init__(self, path: Path, scratch: Path, tops: tuple[str, ...] = ("",)):
        self.path, self.scratch = path, scratch
        size = path.stat().st_size
        if path.is_dir():
            files = []
            for top in tops:
                for folder, _, found in os.walk(path / top, followlinks=True):
                    files += [Path(folder, file) for file in found]
            names = sorted(file.relative_to(path).as_posix() for file in files)
            size = sum(file.stat().st_size for file in files)
        elif path.name.endswith((".tar.gz", ".tgz")):
            with _explained(path), gzip.open(path) as compressed:
                path = self._copy(compressed, f"{path.name}.tar")
            names = _handle(path).namelist()
        elif path.suffix in (".zip", ".tar"):
            names = _handle(path).namelist()
        else:
            path, names = path.parent, [path.name]
        self.members = [Member(path, name) for name in names if not name.endswith("/") and not _JUNK.fullmatch(name)]
        # Distinguishes one download from another.
        self.fingerprint = f"{self.path.name} ({len(self.members)} files, {size} bytes)"

    def find(self, pattern: str, name: str = r"\1") -> dict[str, Member]:
        """Finds members by a regular expression for the end of their path.

        The result is by `name`, a template into which the groups of a match are filled in. The zips inside the archive
        are searched only if nothing else matches.

        Raises:
            InputError: Two members have the same name.
        """
        expression = re.compile(rf"(?:.*/)?{pattern}")
        matches: list = []
        for members in (self.members, self._inner):
            matches = [(match.expand(name), m) for m in members if (match := expression.fullmatch(m.name))]
            if matches:
                break
        found = dict(matches)
        if len(found) < len(matches):
            twice, other = next((key, m) for key, m in matches if found[key] != m)
            raise InputError(
                f"{self.path} holds {twice} twice, {other.name} and {found[twice].name}: remove one of them"
            )
        return found

    def lines(self, path: str) -> list[str]:
        """Reads the lines of the text file whose path ends in `path`; raises InputError if there is none."""
        found = self.find(f"()({re.escape(path)})")
        if not found:
            raise InputError(f"{self.path} has no {path}, so it is not the archive that is needed, or not all of it")
        return found[""].read().decode("utf-8").splitlines()

    @functools.cached_property
    def _inner(self) -> list[Member]:
        """The members of the zips inside the archive."""
        found = []
        for member in self.members:
            if member.name.endswith(".zip"):
                path = member.archive / member.name
                if not member.archive.is_dir():
                    with _explained(member), member.open() as packed:
                        path = self._copy(packed, member.name)
                inner = Archive(path, self.scratch)
                found += inner.members + inner._inner
        return found

    def _copy(self, file, name: str) -> Path:
        folder = self.scratch / self.path.name
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / name.replace("/", "_")
        with target.open("wb") as copy:
            shutil.copyfileobj(file, copy, 1 << 24)
        return target


def close_all() -> None:
    """Closes the archives that this process has opened."""
    for handle in _handles.values():
        handle.close()
    _handles.clear()


# Each process opens an archive once.
_handles: "dict[Path, zipfile.ZipFile | _Tar]" = {}


def _handle(path: Path) -> "zipfile.ZipFile | _Tar":
    if path not in _handles:
        with _explained(path):
            _handles[path] = zipfile.ZipFile(path) if path.suffix == ".zip" else _Tar(path)
    return _handles[path]


class _Tar:
    """A tar with the interface of ZipFile."""

    def __init__(self, path: Path):
        with tarfile.open(path, "r:") as tar:
            self.members = {info.name: info for info in tar if info.isfile()}
        self.tar = tarfile.open(path, "r:")  # noqa: SIM115 - stays open until close

    def namelist(self) -> list[str]:
        return list(self.members)

    def open(self, name: str):
        return self.tar.extractfile(self.members[name])

    def close(self) -> None:
        self.tar.close()


@contextlib.contextmanager
def _explained(what: Path | Member) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(f"{what} is damaged or truncated ({error}): download the archive again") from error
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise InputError(f"cannot read {what}: {error.strerror}") from error
