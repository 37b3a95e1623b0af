"""Files that are read as a whole, and written completely or not at all; folders that one command writes into."""

import codecs
import contextlib
import errno
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from openseg_jax.errors import InputError, RunError

_MARKER = ".openseg"  # in a folder of results: says which command writes here, and is what processes lock
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
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str):
    """Parses JSON; raises InputError, which calls the text `where`, if it is not JSON or nested too deeply."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a ValueError, too, for whole numbers of thousands of digits
        raise InputError(f"{where} is not valid JSON: {error}") from error


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
    unmarked: bool = False,
) -> Iterator[None]:
    """Keeps a folder for the results of this process, and the process away from all that is not an earlier result.

    FOLDER/.openseg says what the command wrote there, so that only that is ever replaced.

    Args:
        folder: The folder, which is created if necessary.
        command: The command that writes, for example "predict".
        names: The files and folders in it that will be written.
        inputs: The files that are read, of which none may be among the results.
        unmarked: What has these names is known to be of this command, from a version that did not say so.

    Raises:
        InputError: Something else has one of the names, or another process is writing to the folder.
    """
    folder, names = Path(folder).expanduser(), set(names)
    busy = f"another process is writing to {folder}: wait until it has ended, or choose another folder"
    with locked(folder / _MARKER, busy) as marker:
        written = _written(folder / _MARKER)
        earlier = written.get(command, sorted(names) if unmarked else [])
        try:
            _refuse_others(folder, command, names, earlier, map(Path, inputs))
        except InputError:
            if not written:
                (folder / _MARKER).unlink()
            raise
        # It only grows, so that one call replaces it: a process that is killed leaves the text before or after.
        os.pwrite(marker, json.dumps(written | {command: sorted(names.union(earlier))}).encode(), 0)
        for place in (folder, *(folder / name for name in names)):
            for unfinished in place.glob(f".{'?' * 16}.tmp*"):  # of a process that was killed
                unfinished.unlink()
        yield


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


def _written(marker: Path) -> dict[str, list[str]]:
    """Returns the names that each command wrote."""
    text = read_text(marker)
    written = parse_json(text, str(marker)) if text else {}
    if not isinstance(written, dict) or not all(isinstance(names, list) for names in written.values()):
        raise InputError(f"{marker} is damaged: choose another folder for the results")
    return written
