"""A data set in ArrayRecord files, as `openseg data build` writes them."""

import functools
import unicodedata
from pathlib import Path
from typing import NamedTuple

from openseg_jax.data.images import decode_image, decode_mask
from openseg_jax.data.maps import Maps
from openseg_jax.errors import InputError
from openseg_jax.files import read_json
from openseg_jax.labels.classes import ClassTable
from openseg_jax.results import child
from openseg_jax.text import one_line

_AGAIN = "run the build command again, which writes what is missing or damaged"


class Shard(NamedTuple):
    """A file of records and which of them belong to a split, as ArrayRecord's data source wants to know it."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


class RecordSource:
    """Random access to the samples of one split, in the order of their names.

    source[i] is {"image": uint8 (H, W, 3) RGB, "label": uint8 (H, W) train ids, "name": str, ...}, without "label" in a
    split that has no labels. Threads may read at the same time; only the path is pickled. Reading raises InputError if
    a label contains ids that the class table does not have.

    Args:
        root: OUT/NAME or OUT/NAME/1.0.0 of a build.
        split: The name of the split.
        classes: What the values of the masks mean.
        **maps: `maps` and `offset_folder` of `maps.Maps`, which adds further maps to each sample with a label.

    Raises:
        InputError: The build is not complete or has no such split.
    """

    def __init__(self, root: str, split: str, classes: ClassTable, **maps):
        # It takes half a second that other sources should not wait.
        from array_record.python.array_record_data_source import ArrayRecordDataSource
        from tensorflow_datasets.proto import tf_example_pb2

        self.root, self.split, self.classes = root, split, classes
        self.further = Maps(classes, **maps)
        folder = _version_folder(root)
        if not (folder / "dataset_info.json").is_file():
            raise InputError(f"{folder} is not complete: run the build command again, which continues where it stopped")
        self._shards = _shards(folder, split)
        lost = [Path(shard.filename).name for shard in self._shards if not Path(shard.filename).is_file()]
        if lost:
            raise InputError(f"{folder} lacks {len(lost)} files, such as {lost[0]}: run the build command again")
        count = sum(shard.take for shard in self._shards)
        self.names, self._sizes = _read_index(folder / f"index-{split}.json", count)
        self._records, self._parse = ArrayRecordDataSource(self._shards), tf_example_pb2.Example.FromString
        _ = self._record(0)  # modules are imported now, which threads must not do at the same time

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict:
        record, where = self._record(index), self._where(index)
        image = decode_image(record["image"], where)
        sample = {"image": image, "name": self.names[index]}
        if record["name"] != self.names[index].encode() or image.shape[:2] != self.size(index):
            raise InputError(f"{where} has another name or size than the index of the split says: {_AGAIN}")
        if record["label"]:
            mask = decode_mask(record["label"], where, colors=self.classes.masks == "colors")
            if mask.shape[:2] != self.size(index):
                raise InputError(f"{where} has a mask of another size than its image: {_AGAIN}")
            sample["label"] = self.classes.encode(mask, where)
            sample |= self.further(self.names[index], sample["label"])
        return sample

    def _record(self, index: int) -> dict[str, bytes]:
        """Reads image, label and name. ArrayRecord compares each record with its checksum."""
        try:
            features = self._parse(self._records[index]).features.feature
            return {key: features[key].bytes_list.value[0] for key in ("image", "label", "name")}
        except Exception as error:  # of the system, of ArrayRecord and of protobuf, which have no class in common
            reason = one_line(str(error))[:160] or type(error).__name__
            raise InputError(f"{self._where(index)} is damaged ({reason}): {_AGAIN}") from error

    def _where(self, index: int) -> str:
        """Returns what errors call a sample: its file and its name."""
        before = 0
        for shard in self._shards:
            before += shard.take
            if index < before:
                break
        return f"{shard.filename}: {self.names[index]}"

    def size(self, index: int) -> tuple[int, int]:
        """Returns the (height, width) of a sample."""
        return tuple(self._sizes[index])

    def stamps(self) -> list[list[int]]:
        """Returns the size and the modification time of every file."""
        files = (Path(shard.filename).stat() for shard in self._shards)
        return [[file.st_size, int(file.st_mtime)] for file in files]

    def __reduce__(self):
        return functools.partial(RecordSource, maps=self.further.maps), (self.root, self.split, self.classes)


def is_record_root(path: str) -> bool:
    """Returns whether the build command has begun to write into a folder."""
    return _is_begun(_version_folder(path))


def check_name(name: object, where: str) -> None:
    """Raises InputError if no file can have a sample's name, as results have it."""
    letters = name if isinstance(name, str) and not name.startswith(".") else "\0"
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in letters):  # control, and what is not UTF-8
        raise InputError(f"{where} has a sample of the name {name!a:.80}, and no result can be called so: rename it")
    try:
        child("", name, ".png")
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _shards(folder: Path, split: str) -> list[Shard]:
    """Returns the files of a split, from dataset_info.json.

    tfds could read it too, but it imports whatever module features.json names.
    """
    file = folder / "dataset_info.json"
    content = read_json(file)
    try:
        name = content["name"]
        splits = {part["name"]: list(map(int, part["shardLengths"])) for part in content["splits"]}
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise InputError(f"{file} is damaged: {_AGAIN}") from error
    if split not in splits:
        raise InputError(f"{folder} has no split {split!r}: it has {', '.join(map(str, sorted(splits, key=str)))}")
    lengths = splits[split]
    if not isinstance(name, str) or Path(name).name != name or not lengths or min(lengths) < 1:
        raise InputError(f"{file} is damaged: {_AGAIN}")
    files = (folder / f"{name}-{split}.array_record-{i:05d}-of-{len(lengths):05d}" for i in range(len(lengths)))
    return [Shard(str(path), 0, length, length) for path, length in zip(files, lengths, strict=True)]


def _read_index(file: Path, count: int) -> tuple[list[str], list[list[int]]]:
    """Reads the names and the sizes of `count` samples."""
    content = read_json(file)
    names, sizes = (content.get(key) if isinstance(content, dict) else None for key in ("names", "sizes"))
    if not isinstance(names, list) or not isinstance(sizes, list) or not len(names) == len(sizes) == count:
        raise InputError(f"{file} does not hold the names and sizes of {count} samples: {_AGAIN}")
    for name in names:
        check_name(name, str(file))
    if len(set(names)) < count:
        raise InputError(f"{file} holds a name twice: {_AGAIN}")
    for size in sizes:
        if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
            raise InputError(f"{file} gives the size {size!a:.40}, wanted [height, width]: {_AGAIN}")
    return names, sizes


def _version_folder(root: str) -> Path:
    path = Path(root).expanduser()
    return path if _is_begun(path) else path / "1.0.0"


def _is_begun(folder: Path) -> bool:
    return any((folder / file).is_file() for file in ("dataset_info.json", "journal.jsonl"))
