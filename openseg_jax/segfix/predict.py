"""Offsets of pictures by the SegFix net of a checkpoint."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from openseg_jax import sharding
from openseg_jax.checkpoints import load
from openseg_jax.errors import InputError
from openseg_jax.evaluation.inference import DEFAULTS
from openseg_jax.segfix.offsets import OffsetPredictor

_AHEAD = 8  # pictures whose offsets wait to be taken


def load_predictor(
    checkpoint: str | Path,
    source,
    *,
    window: tuple[int, int] | None = None,
    stride: tuple[int, int] | None = None,
    batch_size: int = 0,
) -> tuple[OffsetPredictor, dict]:
    """The predictor of a checkpoint over a source of pictures, and the variables to run it with.

    window: (height, width) of the windows to predict in; the whole picture at once if not given. stride: between
    windows; a third of them, rounded down, if not given, as in the original. batch_size: 0 is one per device.
    """
    model, variables, metadata = load(checkpoint)
    mesh = sharding.make_mesh()
    changes = {"batch_size": batch_size or mesh.size}
    if window is not None:
        changes |= {"protocol": "crops", "crop": window, "crop_stride": stride or tuple(side // 3 for side in window)}
    elif stride is not None:
        raise InputError(f"a stride of {stride} is that of windows: give their size, too")
    config = ConfigDict(DEFAULTS | changes)
    align_axis = bool(metadata.config and metadata.config["loss"]["segfix"]["align_axis"])
    predictor = OffsetPredictor(model, config, source, metadata.normalization, mesh, align_axis=align_axis)
    return predictor, sharding.put_replicated(mesh, variables)


class OffsetStream:
    """Offsets as a predictor finds them, in a thread of its own that is a few pictures ahead of who takes them.

    order: the indices of the pictures in the order in which their offsets come. To be used in a `with` statement.
    """

    def __init__(self, predictor: OffsetPredictor, variables: dict):
        self.order: Sequence[int] = [index for bucket in predictor.buckets for index in bucket.indices]
        self._found = {place: Future() for place in range(len(self.order))}
        self._room, self._stopped = threading.Semaphore(_AHEAD), False
        self._thread = threading.Thread(target=self._run, args=(predictor, variables))

    def take(self, place: int) -> np.ndarray:
        """int8 (H, W, 2) of the picture `order[place]`. Each is taken once, more or less in this order."""
        offsets = self._found[place].result()
        del self._found[place]
        self._room.release()
        return offsets

    def __enter__(self) -> OffsetStream:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stopped = True
        self._room.release()
        self._thread.join()

    def _run(self, predictor: OffsetPredictor, variables: dict) -> None:
        places = iter(range(len(self.order)))

        def put(index: int, offsets: np.ndarray) -> None:
            self._room.acquire()
            if self._stopped:
                raise _Stopped
            self._found[next(places)].set_result(offsets)

        try:
            with contextlib.suppress(_Stopped):
                predictor.run(variables, on_prediction=put)
            error = InputError("the prediction of offsets was stopped")
        except Exception as found:
            error = found
        for place in places:  # nobody may wait for these forever
            self._found[place].set_exception(error)


class _Stopped(Exception):  # noqa: N818
    """Nobody takes any more offsets."""
