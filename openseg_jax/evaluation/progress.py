"""What an evaluation has done so far, so that it can go on after a kill."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import time
from pathlib import Path

import jax
import numpy as np

from openseg_jax import sharding
from openseg_jax.errors import InputError

_SECONDS = 10.0  # between two writes,
_BATCHES = 50  # or, as several processes have to agree on when, so many batches


@dataclasses.dataclass
class Progress:
    """key: what must be the same for a run to go on: checkpoint, config, split. batches: done. total: the counts.
    images: int32 (images, 3, K). boundaries: float64 (versions, images, K, 3), boundary F-score, intersection and union
    of the boundary regions, nan where not scored; the second version is before refinement. failures: what could not be
    read, by name.
    """

    key: dict
    batches: int
    total: np.ndarray | int
    images: np.ndarray
    boundaries: np.ndarray
    failures: dict[str, str]

    @classmethod
    def begin(cls, key: dict, count: int, num_classes: int, versions: int = 1) -> Progress:
        boundaries = np.full((versions, count, num_classes, 3), np.nan)
        return cls(key, 0, 0, np.zeros((count, 3, num_classes), np.int32), boundaries, {})

    @classmethod
    def read(cls, path: Path, key: dict) -> Progress | None:
        """What an interrupted run left, None if nothing. Raises InputError if that was another evaluation."""
        if not path.exists():
            return None
        with np.load(path) as content:
            found = json.loads(str(content["key"]))
            if found != key:
                differing = [name for name in key if found.get(name) != key[name]]
                raise InputError(
                    f"{path} is of another evaluation (other {', '.join(differing)}): delete it, or give --noresume"
                )
            failures = json.loads(str(content["failures"]))
            arrays = content["total"], content["images"], content["boundaries"]
            return cls(key, int(content["batches"]), *arrays, failures)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp.npz")
        texts = {"key": json.dumps(self.key), "failures": json.dumps(self.failures)}
        arrays = {"total": self.total, "images": self.images, "boundaries": self.boundaries}
        np.savez(temporary, batches=self.batches, **arrays, **texts)
        os.replace(temporary, path)

    def gather(self) -> None:
        """Brings together what each process knows of its own pictures. All must call it, at the same point."""
        own = io.BytesIO()
        np.savez_compressed(own, boundaries=self.boundaries, failures=json.dumps(self.failures))
        for data in sharding.exchange(own.getvalue()):
            with np.load(io.BytesIO(data)) as content:
                others = content["boundaries"]
                self.boundaries = np.where(np.isnan(self.boundaries), others, self.boundaries)
                self.failures |= json.loads(str(content["failures"]))


class Writer:
    """Writes a progress now and then; of several processes the first one does."""

    def __init__(self, progress: Progress, path: Path | None):
        self._progress, self._path, self._last = progress, path, time.monotonic()
        self._before = progress.total

    def __call__(self, batches: int, total: np.ndarray) -> None:
        self._progress.batches, self._progress.total = batches, self._before + total
        if self._path is None or not self._due(batches):
            return
        self._progress.gather()
        if jax.process_index() == 0:
            self._progress.write(self._path)
        self._last = time.monotonic()

    def _due(self, batches: int) -> bool:
        if jax.process_count() > 1:
            return batches % _BATCHES == 0
        return time.monotonic() - self._last >= _SECONDS
