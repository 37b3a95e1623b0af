"""Files that are read as a whole, and written completely or not at all."""

import codecs
import contextlib
import errno
import fcntl
import io
import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from openseg_jax.errors import InputError, RunError

if TYPE_CHECKING:
    import numpy as np

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
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str):
    """Parses JSON; raises InputError, which calls the text `where`, if it is not JSON or nested too deeply."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a ValueError, too, for whole numbers of thousands of digits
        raise InputError(f"{where} is not valid JSON: {error}") from error


def read_npz(path: str | os.PathLike) -> "dict[str, np.ndarray]":
    """Reads the arrays of a .npz file, which has checksums; raises InputError if it is none, or is damaged."""
    import numpy as np  # which parsing a command line does not need

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
