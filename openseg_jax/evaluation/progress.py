"""An evaluation that can be killed and goes on."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from openseg_jax import sharding
from openseg_jax.console import Console, track
from openseg_jax.errors import InputError
from openseg_jax.files import read_npz, replacing
from openseg_jax.inference import Item, Runner
from openseg_jax.metrics.accumulator import Accumulator

_SECONDS = 10.0  # between two writes,
_BATCHES = 50  # or, as several processes have to agree on when, so many batches


class Progress:
    """What an evaluation has done so far, in memory and now and then in a file.

    Attributes:
        batches: How many are done.
        scores: Of the images of this process; after an interrupted run the first process begins with what it left.
        failures: Why images of this process could not be read, by name.
    """

    def __init__(self, path: Path | None, key: dict, scores: dict[str, Accumulator], *, resume: bool):
        """Begins, or goes on where an interrupted run stopped; raises InputError if that was another evaluation.

        path: The file; None keeps nothing. key: What must be the same for a run to go on: checkpoint, settings, split.
        scores: Scores without images.
        """
        self._path, self._key, self._last = path, json.loads(json.dumps(key)), time.monotonic()
        self.batches, self.scores, self.failures = 0, scores, {}
        if path and resume and path.exists():
            self._read(path)

    def run(self, runner: Runner, variables: dict, what: str, console: Console) -> Iterator[Item]:
        """Adds the images that are left to the scores, and yields them; those that cannot be read are failures.

        what: Stands before the bar that shows the progress.
        """
        left = runner.batches(variables, self.batches)
        for done, items in track(left, what, runner.batch_count - self.batches, console=console):
            for item in items:
                if item.error:
                    self.failures[item.name] = str(item.error)
                    continue
                for score in self.scores.values():
                    score.update(item)
                yield item
            self.batches = done
            if self._path and self._due():
                self._write(self._path)

    def merge(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Returns the scores and failures of all processes. All must call it, at the same point."""
        scores = {name: score.merge(sharding.exchange) for name, score in self.scores.items()}
        failures = {}
        for data in sharding.exchange(json.dumps(self.failures).encode()):
            failures |= json.loads(data)
        return scores, failures

    def forget(self) -> None:
        """Removes the file."""
        if jax.process_index() == 0:
            self._path.unlink(missing_ok=True)

    def _due(self) -> bool:
        if jax.process_count() > 1:
            return self.batches % _BATCHES == 0
        return time.monotonic() - self._last >= _SECONDS

    def _write(self, path: Path) -> None:
        scores, failures = self.merge()
        if jax.process_index() == 0:
            arrays = {f"{name}/{part}": x for name, score in scores.items() for part, x in score.state().items()}
            texts = {"key": json.dumps(self._key), "failures": json.dumps(failures)}
            with replacing(path) as temporary:
                np.savez(temporary, batches=self.batches, **arrays, **texts)
        self._last = time.monotonic()

    def _read(self, path: Path) -> None:
        content, other = read_npz(path), "delete it, or give --noresume"
        try:
            found = json.loads(str(content["key"]))
            differing = [name for name in self._key if found.get(name) != self._key[name]]
            if differing:
                raise InputError(f"{path} is of another evaluation (other {', '.join(differing)}): {other}")
            self.batches, self.failures = int(content["batches"]), json.loads(str(content["failures"]))
            if jax.process_index() == 0:  # states add up over processes
                for name, score in self.scores.items():
                    score.restore({part: content[f"{name}/{part}"] for part in score.sums})
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise InputError(f"{path} is not what an evaluation writes: {other}") from error
