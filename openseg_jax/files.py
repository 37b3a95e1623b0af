"""Files that are read as a whole, and written completely or not at all; folders that one command writes into."""

import codecs
import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from openseg_jax.errors import InputError, RunError

_MARKER = ".openseg"  # in a folder of results: says which command writes here, and is what processes lock
_MOST_OF_NPZ = 4 << 30  # bytes; a small file of zeros could stand for any number of them
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def read_bytes(path: str | os.PathLike) -> bytes:
    """Reads a file; raises InputError if that is impossible, or if it is no file: a pipe could let us wait forever."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"cannot read {path}: it is not a regular file")
            return file.read()
    except (OSError, ValueError) as error:  # a ValueError if the name has a zero byte
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def read_text(path: str | os.PathLike) -> str:
    """Reads a text file in UTF-8, or in UTF-16 if it begins with a byte order mark; raises InputError otherwise."""
    content = read_bytes(path)
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a UTF-8 text file: {error}") from error


def read_json(path: str | os.PathLike):
    """Reads a JSON file; raises InputError if it cannot be read or is not JSON."""
    return _parse_json(read_text(path), str(path))


def _parse_json(text: str, where: str):
    """Parses JSON; raises InputError, which calls the text `where`, if it is not JSON or nested too deeply."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a ValueError, too, for whole numbers of thousands of digits
        raise InputError(f"{where} is not valid JSON: {error}") from error


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays of a .npz file, which has checksums; raises InputError if it is none, or is damaged."""
    try:
        with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as content:
            if sum(entry.file_size for entry in content.zip.infolist()) > _MOST_OF_NPZ:
                raise InputError(f"{path} holds more than {_MOST_OF_NPZ >> 30} GiB: it is none of the files we write")
            return dict(content)
    except InputError:
        raise
    except Exception as error:  # numpy and zipfile raise errors of many types for damaged files
        raise InputError(f"{path} is not a .npz file of arrays, or it is damaged: {error}") from error


def stamp(path: str | os.PathLike) -> list[int]:
    """Returns the size of a file and when it was modified, which tell whether it has changed."""
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]


# ---------------------------------------------------------------------------------------------------------------------
# Writing


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path that takes the place of `path` when the block ends.

    The temporary file lies beside `path`, is hidden, has the same suffix, and a name that nobody can guess: in a folder
    that others may write to, a link of that name would lead elsewhere. The folder is created if necessary. If the block
    raises, `path` stays as it was and the temporary file is removed.

    Raises:
        InputError: Nothing can be written there.
        RunError: The disk is full or broken.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp{path.suffix}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Turns an OSError of the block, which writes `path`, into an InputError, or a RunError if the disk is full."""
    try:
        yield
    except OSError as error:
        reason = f"cannot write {path}: {error.strerror or error}"
        # numpy reports a short write without saying why.
        if error.errno in _FULL or error.errno is None:
            raise RunError(f"{reason}; make room, and run the same command again") from error
        raise InputError(f"{reason}; give another place") from error


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes text as UTF-8."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes bytes."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def child(folder: str | os.PathLike, name: str, suffix: str = "") -> Path:
    """Returns FOLDER/NAME + SUFFIX, the path of a result that has its name from data.

    Raises:
        InputError: The path would lie outside `folder`, or no file can have that name.
    """
    parts = PurePosixPath(name + suffix).parts
    if not name or name.startswith("/") or ".." in parts or "\0" in name or "\\" in name:
        raise InputError(f"{name!r} cannot be the name of a result, which has to lie in {folder}: rename it")
    if any(len(os.fsencode(part)) > 255 for part in parts):
        raise InputError(f"the name {name[:40]!r}... is longer than the 255 bytes that a file may have: rename it")
    return Path(folder, *parts)


# ---------------------------------------------------------------------------------------------------------------------
# Folders of results


@contextlib.contextmanager
def locked(path: str | os.PathLike, busy: str | None = None) -> Iterator[int]:
    """Holds the lock of a file, which is created if necessary, against other processes, and yields its descriptor.

    The system lets go of it however this process ends. A link in place of the file is refused, as it may lead anywhere.

    Args:
        path: The file.
        busy: The message of the InputError if another process has the lock. None waits until that has ended.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as error:
            raise InputError(busy) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # a file system without locks
                raise
        yield file
    finally:
        os.close(file)


@contextlib.contextmanager
def results(
    folder: str | os.PathLike,
    command: str,
    names: Iterable[str],
    inputs: Iterable[str | os.PathLike] = (),
    key: object = None,
    unmarked: bool = False,
) -> Iterator[int]:
    """Keeps a folder for the results of this process, and the process away from all that is not an earlier result.

    FOLDER/.openseg says what the command wrote there, so that only that is ever replaced.

    Args:
        folder: The folder, which is created if necessary.
        command: The command that writes, for example "predict".
        names: The files and folders in it that will be written.
        inputs: The files that are read, of which none may be among the results.
        key: What results depend on besides their inputs, as JSON can hold it.
        unmarked: What has these names is known to be of this command, from a version that did not say so.

    Yields:
        Since when, in ns, the command has written with this key; older results are those of another one.

    Raises:
        InputError: Something else has one of the names, or another process is writing to the folder.
    """
    folder, names = Path(folder).expanduser(), set(names)
    busy = f"another process is writing to {folder}: wait until it has ended, or choose another folder"
    with locked(folder / _MARKER, busy) as marker:
        text, written = _written(folder / _MARKER)
        earlier = written.get(command, {"names": sorted(names) if unmarked else [], "key": "", "since": 0})
        try:
            _refuse_others(folder, command, names, earlier["names"], map(Path, inputs))
        except InputError:
            if not written:
                (folder / _MARKER).unlink()
            raise
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
        since = earlier["since"] if earlier["key"] == digest else time.time_ns()
        written[command] = {"names": sorted(names.union(earlier["names"])), "key": digest, "since": since}
        # It never gets shorter, so that one call replaces it: a process that is killed leaves the text before or after.
        os.pwrite(marker, json.dumps(written).ljust(len(text)).encode(), 0)
        for place in (folder, *(folder / name for name in names)):
            for unfinished in place.glob(f".{'?' * 16}.tmp*"):  # of a process that was killed
                unfinished.unlink()
        yield since


def is_done(results: Iterable[Path], inputs: Iterable[Path], since: int) -> bool:
    """Returns whether results exist and are newer than `since`, in ns, and than the files that they were made from."""
    try:
        oldest = min(path.stat().st_mtime_ns for path in results)
        return oldest >= max([since, *(path.stat().st_mtime_ns for path in inputs)])
    except OSError:
        return False


def refuse_existing(path: str | os.PathLike) -> None:
    """Raises InputError if there is anything at the path of a result."""
    if os.path.lexists(path):
        raise InputError(f"{path} exists: give another file to --out, because nothing is written over it")


def _refuse_others(folder: Path, command: str, names: set[str], earlier: list[str], inputs: Iterable[Path]) -> None:
    """Raises InputError if files that are no earlier results, or that are read, would be replaced."""
    for path in (folder / name for name in names.difference(earlier)):
        if os.path.lexists(path):
            raise InputError(
                f"{path} exists, and `openseg {command}` did not write it: choose another folder for the results, "
                "because nothing is written over other files"
            )
    replaced = {(folder / name).resolve() for name in names}
    for path in inputs:
        if not replaced.isdisjoint([path.resolve(), *path.resolve().parents]):
            raise InputError(f"the results would be written over {path}, which is read: choose another folder")


def _written(marker: Path) -> tuple[str, dict[str, dict]]:
    """Returns the text of a marker, and what each command wrote: "names", with which "key", "since" when."""
    text = read_text(marker)
    written = _parse_json(text, str(marker)) if text else {}
    kinds = {"names": list, "key": str, "since": int}
    entries = written.values() if isinstance(written, dict) else [None]
    for entry in entries:
        if not isinstance(entry, dict) or not all(isinstance(entry.get(name), kind) for name, kind in kinds.items()):
            raise InputError(f"{marker} is damaged: choose another folder for the results")
    return text, written
