"""Writes a benchmark as ArrayRecord shards, in parallel, and continues where an earlier run was stopped.

OUT/NAME/1.0.0 holds NAME-SPLIT.array_record-00000-of-00008 and so on, index-SPLIT.json, journal.jsonl and, once all of
these are complete and checked, features.json and dataset_info.json, without which tfds does not open it.
"""

import contextlib
import dataclasses
import errno
import hashlib
import itertools
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import tensorflow_datasets as tfds
from array_record.python import array_record_module
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from openseg_jax import __version__
from openseg_jax.console import Console
from openseg_jax.data.building import archives as archive_access
from openseg_jax.data.building.archives import Archive
from openseg_jax.data.building.builder import Sample, SegmentationBuilder, prepared_splits
from openseg_jax.data.building.datasets import BUILDERS
from openseg_jax.data.workers import in_processes
from openseg_jax.errors import InputError, RunError
from openseg_jax.files import locked, read_bytes, replacing, write_text
from openseg_jax.labels.classes import load_about, load_classes
from openseg_jax.text import one_line

SAMPLES_PER_SHARD = 256
UNPACKED = "unpacked"  # a folder that is there during a build only
MAX_SHARDS = 256  # a reader keeps every shard open


def build(
    name: str,
    archives: Path,
    out: Path,
    *,
    workers: int = 1,
    from_prepared: bool = False,
    allow_partial: bool = False,
    console: Console,
) -> Path:
    """Builds a benchmark and returns the folder OUT/NAME/1.0.0.

    Args:
        name: The name of the benchmark, one of `BUILDERS`.
        archives: The folder with the downloads; with `from_prepared`, a folder of SPLIT/image and SPLIT/label.
        out: Where to write.
        workers: The number of processes, on which the result does not depend.
        from_prepared: Build from folders of images and masks instead of downloads.
        allow_partial: Build what is there, even if it is less than the benchmark has.
        console: Where to show progress and a summary.

    Raises:
        InputError: Something is missing, damaged or not as it must be, or the disk is full.
    """
    if name not in BUILDERS:
        raise InputError(f"there is no builder {name!r}: it is one of {', '.join(BUILDERS)}")
    if not archives.is_dir():
        raise InputError(f"there is no folder {archives}: give the one with the downloads")
    folder = out / name / str(BUILDERS[name].VERSION)
    scratch = folder / UNPACKED
    with _explained(folder), Journal(folder) as journal, tempfile.TemporaryDirectory() as staging:
        try:
            # tfds gets another folder, since it would read what lies in this one, damaged as it may be.
            builder = BUILDERS[name](data_dir=staging, file_format="array_record")
            parts, samples = _find(builder, archives, scratch, from_prepared, allow_partial, console)
            digest = hashlib.sha256(repr([(s, [x.name for x in samples[s]]) for s in samples]).encode())
            source = {key: part.fingerprint for key, part in parts.items() if part}
            table = hashlib.sha256(json.dumps(load_classes(builder.table).to_dict()).encode())
            source |= {"prepared": from_prepared, "names": digest.hexdigest(), "class table": table.hexdigest()}
            journal.begin(source | {"version": __version__})
            (folder / "dataset_info.json").unlink(missing_ok=True)  # nothing can read it until it is complete
            shards = {split: _shards(builder, folder, split, found) for split, found in samples.items()}
            _write_all(shards, journal, workers, console)
            console.print(_finish(builder, folder, Path(staging), shards, journal))
        finally:
            archive_access.close_all()
            _remove(scratch)
            for temporary in folder.glob(f".{'?' * 16}.tmp*"):  # of a run that was killed
                temporary.unlink()
    return folder


def _find(
    builder: SegmentationBuilder, folder: Path, scratch: Path, prepared: bool, allow_partial: bool, console: Console
) -> tuple[dict[str, Archive | None], dict[str, list[Sample]]]:
    _remove(scratch)
    with console.status(escape(f"looking into {folder}")):
        parts = {"folder": Archive(folder, scratch)} if prepared else builder.locate(folder, scratch)
        find_splits = prepared_splits if prepared else builder.find_splits
        samples, missing = builder.find_samples(find_splits(*parts.values()))
    if not samples:
        layout = "folders SPLIT/image and SPLIT/label" if prepared else "the layout of the official archives"
        raise InputError(f"{folder} holds no samples of {builder.name}: it needs {layout}")
    if missing and not allow_partial:
        raise InputError(
            f"{builder.name} is not complete in {folder}: {'; '.join(missing)}: complete it "
            f"({load_about(builder.table).download}), or give --allow_partial to build what there is"
        )
    for phrase in missing:
        console.print(f"incomplete: {phrase}", markup=False)
    return parts, samples


def _remove(scratch: Path) -> None:
    """Removes the copies of a build, also of one that was killed."""
    if scratch.is_symlink():
        scratch.unlink()
    shutil.rmtree(scratch, ignore_errors=True)


class Journal(contextlib.AbstractContextManager):
    """The record of a build, from which it resumes: the source and the shards that are done, as lines of JSON.

    Each line has a checksum, and one that is damaged does not count; of a shard, the last row does. The folder is
    locked while the journal is open; InputError is raised if another build has locked it.
    """

    def __init__(self, folder: Path):
        self.path, self._lock = folder / "journal.jsonl", contextlib.ExitStack()
        busy = f"another build is writing to {folder}: wait until it has ended"
        self._file = self._lock.enter_context(locked(self.path, busy))
        lines = list(filter(None, map(_parse, read_bytes(self.path).splitlines())))
        self._new = not self.path.stat().st_size
        others = [path.name for path in folder.iterdir() if path != self.path and path.name != UNPACKED]
        if self._new and others:
            self.__exit__()
            raise InputError(f"{folder} holds {one_line(others[0])}, which no build wrote: give another --out")
        # Rows without a source, of a damaged journal or of an older version, count as nothing.
        start = max((index for index, line in enumerate(lines) if "shard" not in line), default=len(lines))
        self.source = lines[start] if lines[start:] else None
        self.rows = {row["shard"]: row for row in lines[start + 1 :]}

    def begin(self, source: dict) -> None:
        """Enters the source; raises InputError if the content of the folder was made from another one."""
        if self.source is None:
            self._write(source)
        elif self.source != source:
            changed = [key for key in source | self.source if source.get(key) != self.source.get(key)]
            before, now = (", ".join(f"{key}: {s.get(key)}" for key in changed) for s in (self.source, source))
            raise InputError(
                f"{self.path.parent} was made from {before}, and these archives are {now}: give another --out, or "
                "delete that folder"
            )
        self.source, self._new = source, False

    def add(self, row: dict) -> None:
        """Enters the row of a shard."""
        if self.rows.get(row["shard"]) != row:
            self._write(row)
            self.rows[row["shard"]] = row

    def _write(self, content: dict) -> None:
        # It also begins with a line break, because the file may end in half a line.
        os.lseek(self._file, 0, os.SEEK_END)
        os.write(self._file, f"\n{json.dumps(content | {'crc': _crc(content)})}\n".encode())
        os.fsync(self._file)

    def __exit__(self, *error) -> None:
        if self._new:
            self.path.unlink()
            with contextlib.suppress(OSError):  # it is not empty
                self.path.parent.rmdir()
        self._lock.close()


def _parse(line: bytes) -> dict | None:
    """Returns a line of a journal, or None if it is damaged or half a line of a build that was killed."""
    try:
        content = json.loads(line)
        return content if content.pop("crc") == _crc(content) else None
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
        return None


def _crc(content: dict) -> int:
    return zlib.crc32(json.dumps(content).encode())


@dataclasses.dataclass(frozen=True)
class Shard:
    """The content of one file, samples that follow each other in the order of names."""

    path: Path
    samples: list[Sample]
    serializer: ExampleSerializer


def _shards(builder: SegmentationBuilder, folder: Path, split: str, samples: list[Sample]) -> list[Shard]:
    count = min(-(-len(samples) // SAMPLES_PER_SHARD), MAX_SHARDS)
    bounds = [index * len(samples) // count for index in range(count + 1)]
    serializer = ExampleSerializer(builder.info.features.get_serialized_info())
    shards = []
    for index, (start, end) in enumerate(itertools.pairwise(bounds)):
        path = folder / f"{builder.name}-{split}.array_record-{index:05d}-of-{count:05d}"
        shards.append(Shard(path, samples[start:end], serializer))
    return shards


def make_shard(shard: Shard, done: dict | None) -> dict:
    """Writes a shard, unless it is there as `done`, its row of the journal, says; returns its row."""
    if done and shard.path.is_file() and _sha256(shard.path) == done["sha256"]:
        return done
    sizes = []

    def records() -> Iterator[bytes]:
        for sample in shard.samples:
            example, size = sample.example()
            sizes.append(list(size))
            # serialize_example would write the features in an order that differs between processes.
            yield shard.serializer.get_tf_example(example).SerializeToString(deterministic=True)

    with replacing(shard.path) as temporary:
        write_records(temporary, records())
        with contextlib.closing(array_record_module.ArrayRecordReader(str(temporary))) as reader:
            count = reader.num_records()
        if count != len(shard.samples):
            raise InputError(f"{temporary} holds {count} of {len(shard.samples)} samples: check the disk")
        row = {"shard": shard.path.name, "bytes": temporary.stat().st_size, "sha256": _sha256(temporary)}
    return row | {"sizes": sizes}


def write_records(path: Path, records: Iterable[bytes]) -> None:
    """Writes an ArrayRecord file."""
    with contextlib.closing(array_record_module.ArrayRecordWriter(str(path), "group_size:1")) as writer:
        for record in records:
            writer.write(record)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_all(shards: dict[str, list[Shard]], journal: Journal, workers: int, console: Console) -> None:
    """Writes the shards that are missing and enters each into the journal when it is complete."""
    every = [shard for part in shards.values() for shard in part]
    rows = [journal.rows.get(shard.path.name) for shard in every]
    columns = TextColumn("samples"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=sum(len(shard.samples) for shard in every))
        for row in in_processes(make_shard, every, rows, workers=workers):
            journal.add(row)
            progress.advance(task, len(row["sizes"]))


def _finish(
    builder: SegmentationBuilder, folder: Path, staging: Path, shards: dict[str, list[Shard]], journal: Journal
) -> Table:
    """Writes the files that make the folder a data set, dataset_info.json last, and tabulates the splits.

    The SHA-256 of a split is that of the hexadecimal digests of its shards in a row.
    """
    table = Table("split", "samples", "shards", "bytes")
    table.add_column("SHA-256", overflow="fold")
    infos = []
    for split, part in shards.items():
        rows = [journal.rows[shard.path.name] for shard in part]
        names = [sample.name for shard in part for sample in shard.samples]
        index = {"names": names, "sizes": [size for row in rows for size in row["sizes"]]}
        write_text(folder / f"index-{split}.json", json.dumps(index))
        template = tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=builder.name, split=split, filetype_suffix="array_record"
        )
        lengths = [len(row["sizes"]) for row in rows]
        size = sum(row["bytes"] for row in rows)
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=size, filename_template=template))
        digest = hashlib.sha256("".join(row["sha256"] for row in rows).encode()).hexdigest()
        table.add_row(split, str(len(names)), str(len(rows)), str(size), digest)
    builder.info.set_splits(tfds.core.splits.SplitDict(infos))
    builder.info.write_to_directory(staging)
    for file in ("LICENSE", "features.json", "dataset_info.json"):
        write_text(folder / file, (staging / file).read_text(encoding="utf-8"))
    return table


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        # ArrayRecord reports errors of the system as RuntimeErrors that contain their text.
        if any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT)):
            raise InputError(
                f"the disk of {folder} is full: make room and run the same command again, and it continues from here"
            ) from error
        if isinstance(error, RunError):
            raise
        reason = getattr(error, "strerror", None) or one_line(str(error))
        raise InputError(f"cannot write to {folder}: {reason}") from error
