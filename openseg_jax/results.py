"""Folders of results: one command at a time writes into them, and never over anything else than earlier results."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from openseg_jax.errors import InputError
from openseg_jax.files import locked, parse_json, read_text, writing

_MARKER = ".openseg"  # in a folder of results: says which command writes here, and is what processes lock


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
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
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
        os.utime(marker)  # by the clock of the file system, by which results have their time, too
        since = earlier["since"] if earlier["key"] == digest else os.fstat(marker).st_mtime_ns
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
    written = parse_json(text, str(marker)) if text else {}
    kinds = {"names": list, "key": str, "since": int}
    entries = written.values() if isinstance(written, dict) else [None]
    for entry in entries:
        if not isinstance(entry, dict) or not all(isinstance(entry.get(name), kind) for name, kind in kinds.items()):
            raise InputError(f"{marker} is damaged: choose another folder for the results")
    return text, written


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
