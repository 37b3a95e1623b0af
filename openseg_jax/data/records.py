"""A data set as ArrayRecord files, as `python -m openseg_jax.data build` makes them."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from openseg_jax.data.images import decode_image, decode_mask
from openseg_jax.data.maps import COMPUTED, Maps
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import ClassTable


class RecordSource:
    """Random access to the samples of one split, in the order of their names.

    root: OUT/NAME or OUT/NAME/1.0.0 of a build.
    source[i] is {"image": uint8 (H, W, 3) RGB, "label": uint8 (H, W) train ids, "name": str}, without "label" in a
    split that has none. Threads may read at the same time; what is pickled is the path.
    maps, offset_folder: what else a sample with a label has, see `maps.Maps`.
    Raises InputError when made, if the build is not complete or has no such split; and when read, if the class table
    does not know what a label contains.
    """

    def __init__(
        self,
        root: str,
        split: str,
        classes: ClassTable,
        *,
        maps: tuple[str, ...] = (),
        offset_folder: str = COMPUTED,
    ):
        import tensorflow_datasets as tfds  # here, because it takes half a second that other sources need not wait

        self.root, self.split, self.classes = root, split, classes
        self.further = Maps(maps, offset_folder, classes)
        folder = _version_folder(root)
        if not (folder / "dataset_info.json").is_file():
            raise InputError(f"{folder} is not complete: run the build command again, and it goes on where it stopped")
        self._builder = tfds.builder_from_directory(folder)
        splits = self._builder.info.splits
        if split not in splits:
            raise InputError(f"{folder} has no split {split!r}: it has {', '.join(sorted(splits))}")
        lost = [path.name for path in splits[split].filepaths if not path.exists()]
        if lost:
            raise InputError(f"{folder} lacks {len(lost)} files, such as {lost[0]}: run the build command again")
        index = json.loads((folder / f"index-{split}.json").read_text(encoding="utf-8"))
        self.names = index["names"]
        self._sizes = index["sizes"]
        self._where = f"{folder.parent.name}, {split}"
        self._records = self._builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
        _ = self._records[0]  # tfds imports what it needs here, which threads must not do at the same time

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict:
        record = self._records[index]
        where = f"{self._where}: {self.names[index]}"
        sample = {"image": decode_image(record["image"], where), "name": self.names[index]}
        if record["label"]:
            mask = decode_mask(record["label"], where, colors=self.classes.masks == "colors")
            sample["label"] = self.classes.encode(mask, where)
            sample |= self.further(self.names[index], sample["label"])
        return sample

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of a sample."""
        height, width = self._sizes[index]
        return height, width

    def stamps(self) -> list[list[int]]:
        """Length and time of change of every file."""
        files = self._builder.info.splits[self.split].filepaths
        return [[path.stat().length, int(path.stat().mtime)] for path in files]

    def __reduce__(self):
        reopen = functools.partial(RecordSource, maps=self.further.maps)
        return reopen, (self.root, self.split, self.classes)


def is_record_root(path: str) -> bool:
    """Whether a folder is one that the build command has begun."""
    return _is_begun(_version_folder(path))


def _version_folder(root: str) -> Path:
    path = Path(root).expanduser()
    return path if _is_begun(path) else path / "1.0.0"


def _is_begun(folder: Path) -> bool:
    return any((folder / file).is_file() for file in ("dataset_info.json", "journal.jsonl"))
