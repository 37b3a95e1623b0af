"""The record of a build: which shards are done, and from which archives. It is what a build resumes from."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path

from openseg_jax.errors import InputError

NAME = "journal.jsonl"


class Journal:
    """Lines of JSON in a folder: first the source, then one row for each shard, the last of which counts.

    Holds the folder while it is open, so that two builds cannot write into it. Raises InputError if another one does.
    """

    def __init__(self, folder: Path):
        self.path = folder / NAME
        self._file = self.path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise InputError(f"another build is writing to {folder}: wait until it has ended") from error
        self._file.seek(0)
        lines = []
        for line in self._file:
            with contextlib.suppress(json.JSONDecodeError):  # half a line, from a build that was killed
                lines.append(json.loads(line))
        self.source = lines[0] if lines else None
        self.rows = {row["shard"]: row for row in lines[1:]}

    def begin(self, source: dict) -> None:
        """Raises InputError if what is in the folder was made from another source."""
        if self.source is None:
            self._write(source)
        elif self.source != source:
            changed = [key for key in source | self.source if source.get(key) != self.source.get(key)]
            raise InputError(
                f"{self.path.parent} was made from {_named(self.source, changed)}, and these archives are "
                f"{_named(source, changed)}: give another --out, or delete that folder"
            )
        self.source = source

    def add(self, row: dict) -> None:
        if self.rows.get(row["shard"]) != row:
            self._write(row)
            self.rows[row["shard"]] = row

    def _write(self, content: dict) -> None:
        # The line break comes first as well, because what was there may end in half a line.
        self._file.write(f"\n{json.dumps(content)}\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error) -> None:
        if self.source is None:
            self.path.unlink()
        self._file.close()


def _named(source: dict, keys: list[str]) -> str:
    return ", ".join(f"{key}: {source.get(key)}" for key in keys)
