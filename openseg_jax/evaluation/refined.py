"""Evaluation of predictions that SegFix refined, beside the unrefined ones."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp

from openseg_jax import sharding
from openseg_jax.data.offset_files import check_size, find_offsets, read_offsets, write_offsets
from openseg_jax.evaluation.inference import Evaluator
from openseg_jax.inference.offsets import offset_runner
from openseg_jax.labels.refinement import refine


class RefinedEvaluator(Evaluator):
    """Its predictions and counts are refined; its confusion matrices are int (2, K, K), the second of the net's own.

    source: of samples with "offsets", such as `WithOffsets`. scale: how many times as far to look, see `refine`.
    """

    versions = 2
    maps = ("offsets",)

    def __init__(self, *arguments, scale: int):
        self._scale = scale
        super().__init__(*arguments)

    def _counted(self, batch: dict, pictures: dict[str, jax.Array]):
        own = pictures["prediction"]
        refined = refine(own, batch["offsets"], scale=self._scale, sizes=batch["label_size"])
        before, _ = super()._counted(batch, {"prediction": own})
        totals, pictures = super()._counted(batch, pictures | {"prediction": refined})
        return totals | {"counts": jnp.stack([totals["counts"], before["counts"]])}, pictures | {"unrefined": own}


class WithOffsets:
    """A source whose samples also have "offsets", int8 (H, W, 2), from FOLDER/NAME.npz or .mat."""

    def __init__(self, source, folder: Path):
        self._source, self._folder = source, folder

    def __getattr__(self, name: str):
        return getattr(self._source, name)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict:
        sample = self._source[index]
        path = find_offsets(self._folder, sample["name"])
        offsets = read_offsets(path)
        check_size(offsets, path, sample["label"].shape, sample["name"])
        return sample | {"offsets": offsets}


def predict_offsets(checkpoint: Path, source, batch_size: int, out: Path, progress) -> None:
    """OUT/NAME.npz for each image, by a SegFix net."""
    runner, variables = offset_runner(checkpoint, source, batch_size=batch_size)
    for item in progress(runner.run(variables), len(runner.order)):
        if not item.error:  # the evaluation itself names it
            write_offsets(out / f"{item.name}.npz", item["offsets"])
    sharding.exchange(b"")  # a process may need the files of others
