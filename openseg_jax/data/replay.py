"""The batch of one training step again, as images and as the list of what was done to each sample."""

import json
from pathlib import Path

from openseg_jax import data, visualize
from openseg_jax.config import Config
from openseg_jax.data.images import write_image
from openseg_jax.data.pipeline import TrainSamples
from openseg_jax.errors import InputError
from openseg_jax.files import write_text
from openseg_jax.results import results


def replay(config: Config, step: int, out: Path) -> int:
    """Writes the batch of a step, of which 1 is the first, into OUT/ROW.jpg, and what was done into OUT/replay.json.

    Returns the number of samples.
    """
    if step < 1:
        raise InputError(f"steps count from 1, found {step}")
    source = data.make_train_source(config.data)
    samples = TrainSamples.of(config, source)
    rows, pictures = [], [f"{row}.jpg" for row in range(samples.batch_size)]
    with results(out, "data replay", [*pictures, "replay.json"]):
        for row, picture in enumerate(pictures):
            position = (step - 1) * samples.batch_size + row
            index, sample = samples.index(position), samples[position]
            steps = [step.to_dict() for step in samples.steps(position, source.size(index))]
            rows.append({"sample": source.names[index], "index": index, "steps": steps})
            overlay = visualize.overlay(sample["image"], sample["label"], source.classes)
            write_image(out / picture, visualize.side_by_side(sample["image"], overlay))
        write_text(out / "replay.json", json.dumps(rows, indent=2) + "\n")
    return len(rows)
