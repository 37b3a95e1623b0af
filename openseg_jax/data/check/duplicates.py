"""The same picture in two splits: a net is then tested on what it was trained on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from openseg_jax.data.check.faults import ERROR, WARNING, Fault
from openseg_jax.data.check.scan import Sample, Scan

# Of thumbnails, in grey levels: copies in another size or JPEG quality differ by up to 7 in one cell and 1 on average,
# consecutive frames of a moving camera (CamVid, 15 a second) by 27 or more in one cell.
_LARGEST, _MEAN = 8, 1.5
_LEAST_CONTRAST = 5  # standard deviation of a thumbnail below which pictures look alike anyway


def duplicates(scan: Scan) -> list[Fault]:
    train, *others = [[s for s in samples if _telling(s)] for samples in scan.splits.values()] or [[]]
    same, near = [], []
    digests = {s.image.digest: s for s in train}
    for samples in others:
        same += [(digests[s.image.digest], s) for s in samples if s.image.digest in digests]
        near += _near(train, [s for s in samples if s.image.digest not in digests])
    return [
        *_fault(scan, "duplicate", ERROR, "images of another split are also in", same),
        *_fault(scan, "near_duplicate", WARNING, "images of another split look like copies of images in", near),
    ]


def _telling(s: Sample) -> bool:
    return bool(s.image and s.image.digest) and s.image.thumbnail.std() >= _LEAST_CONTRAST


def _fault(scan: Scan, kind: str, severity: str, message: str, pairs: list[tuple[Sample, Sample]]) -> list[Fault]:
    examples = tuple(f"{scan.short(b.images[0])} = {scan.short(a.images[0])}" for a, b in pairs[:3])
    splits = tuple(dict.fromkeys(b.split for _, b in pairs))
    message, fix = f"{message} {next(iter(scan.splits))}", "remove them from one of the two"
    return [Fault(kind, severity, message, fix, len(pairs), examples, splits)] if pairs else []


def _near(train: list[Sample], others: list[Sample]) -> Iterator[tuple[Sample, Sample]]:
    if not train:
        return
    thumbnails = np.array([s.image.thumbnail for s in train])
    coarse = _coarse(thumbnails)
    for s in others:
        likely = np.flatnonzero((np.abs(coarse - _coarse(s.image.thumbnail[None])) <= _LARGEST).all(1))
        off = np.abs(thumbnails[likely].astype(np.int16) - s.image.thumbnail).reshape(len(likely), 32 * 32)
        for index in likely[(off.max(1) <= _LARGEST) & (off.mean(1) <= _MEAN)][:1]:
            yield train[index], s


def _coarse(thumbnails: np.ndarray) -> np.ndarray:
    """uint8 (n, 32, 32) -> float32 (n, 16): means of 8x8 cells, which differ by no more than their cells."""
    return thumbnails.reshape(-1, 4, 8, 4, 8).mean((2, 4), dtype=np.float32).reshape(-1, 16)


FAULTS = (duplicates,)
