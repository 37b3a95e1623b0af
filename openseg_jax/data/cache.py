"""A data set that is decoded once, into one file that is mapped into memory and read window by window."""

import functools
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from openseg_jax.errors import InputError
from openseg_jax.files import locked, read_json, replacing, write_text


class CachedSource:
    """The samples of `source`, read from FOLDER/pixels, which is written on the first use.

    The file holds the image and the label of one sample after the other, 4 bytes per pixel. It is complete or does not
    exist. A cache of other data, or of masks that were read through another class table, is refused. Further maps of
    the source are not in the file.

    Args:
        source: The source to cache.
        folder: The folder of the cache.
        progress: Wraps the iteration over the samples, of which it also gets the number, while the file is written.
    """

    def __init__(self, source, folder: str | os.PathLike, progress: Callable[[Iterable, int], Iterable] | None = None):
        self.classes, self.names, self.folder = source.classes, source.names, Path(folder).expanduser()
        self._maps = source.further
        self.sizes = np.array([source.size(index) for index in range(len(source))], np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes.prod(1) * 4)])
        self._stamps = source.stamps() if hasattr(source, "stamps") else []
        self._checked: set[int] = set()
        description = self.folder / "cache.json"
        with locked(self.folder / "lock"):  # of several processes on a machine, one writes and the others wait
            fingerprint = self._fingerprint()
            if not description.exists():
                checksums = self._write(source, progress or (lambda items, count: items))
                write_text(description, json.dumps({"fingerprint": fingerprint, "crc32": checksums}))
            content = read_json(description)
            if not isinstance(content, dict) or content.get("fingerprint") != fingerprint:
                raise InputError(
                    f"{self.folder} is the cache of other data, or of files that have changed: delete it, or choose "
                    "another folder for data.cache"
                )
            self._checksums = content.get("crc32")
            size = (self.folder / "pixels").stat().st_size if (self.folder / "pixels").is_file() else 0
            if size != self.starts[-1] or not isinstance(self._checksums, list) or len(self._checksums) != len(source):
                raise InputError(f"the cache {self.folder} is damaged: delete it, and it will be made again")

    def __len__(self) -> int:
        return len(self.names)

    def size(self, index: int) -> tuple[int, int]:
        return tuple(map(int, self.sizes[index]))

    def __getitem__(self, index: int) -> dict:
        sample = self.window(index, 0, 0, *self.size(index))
        return sample | self._maps(sample["name"], sample["label"])

    def window(self, index: int, top: int, left: int, height: int, width: int) -> dict:
        """Returns a window of a sample; only its rows are read."""
        h, w = self.size(index)
        start = self.starts[index]
        if index not in self._checked:  # all of it once in each process, though later windows read only their rows
            if zlib.crc32(self._pixels[start : self.starts[index + 1]]) != self._checksums[index]:
                where = f"{self.names[index]} in the cache {self.folder}"
                raise InputError(f"{where} is damaged: delete the folder, and it will be made again")
            self._checked.add(index)
        image = self._pixels[start : start + h * w * 3].reshape(h, w, 3)
        label = self._pixels[start + h * w * 3 : self.starts[index + 1]].reshape(h, w)
        part = slice(top, top + height), slice(left, left + width)
        return {"image": np.array(image[part]), "label": np.array(label[part]), "name": self.names[index]}

    @functools.cached_property
    def _pixels(self) -> np.ndarray:
        return np.memmap(self.folder / "pixels", np.uint8, mode="r")

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "_pixels"} | {"_checked": set()}

    def stamps(self) -> list:
        """Returns what the files that were cached depend on."""
        return self._stamps

    def _fingerprint(self) -> str:
        content = [self.names, self.sizes.tolist(), self.classes.to_dict(), self._stamps]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _write(self, source, progress) -> list[int]:
        """Writes the samples and returns their checksums."""
        with replacing(self.folder / "pixels") as temporary:
            with open(temporary, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, int(self.starts[-1]))  # a disk that is too small fails now
            pixels = np.memmap(temporary, np.uint8, mode="r+")

            def write(index: int) -> int:
                sample = source[index]
                both = np.concatenate([sample["image"].ravel(), sample["label"].ravel()])
                pixels[self.starts[index] : self.starts[index + 1]] = both
                return zlib.crc32(both)

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                checksums = list(progress(pool.map(write, range(len(source))), len(source)))
            pixels.flush()
        return checksums
