"""From a source of samples to padded batches, in which each image comes exactly once."""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np

from openseg_jax.config import EvalSettings
from openseg_jax.data import transforms
from openseg_jax.data.transforms import FILLS
from openseg_jax.errors import InputError
from openseg_jax.inference.buckets import Bucket, Resize, same


def input_size(settings: EvalSettings) -> Resize:
    """Returns the function from an image's (height, width) to the size at which the net sees it."""
    if settings.size:
        return lambda height, width: tuple(settings.size)
    if settings.min_side:
        return functools.partial(transforms.min_side_size, min_side=settings.min_side)
    return same


def net_size(settings: EvalSettings) -> Resize:
    """Returns the function that adds the padding that the net takes for a part of the image, as the original pads."""
    least, stride = settings.pad_size, settings.pad_stride
    if least:
        return lambda height, width: tuple(map(max, least, (height, width)))
    return lambda height, width: (-(-height // stride) * stride, -(-width // stride) * stride)


class Batch(NamedTuple):
    """The arrays of a batch, the errors of samples that could not be read, by their indices, and `Bucket.exact`."""

    arrays: dict[str, np.ndarray]
    failures: dict[int, InputError]
    exact: bool


def eval_batches(
    source,
    buckets: Sequence[Bucket],
    *,
    batch_size: int,
    input_size: Resize = same,
    net_size: Resize = same,
    process: tuple[int, int] = (0, 1),
    maps: Sequence[str] = (),
    start: int = 0,
) -> Iterator[Batch]:
    """Yields batches of one bucket each, loaded ahead by threads.

    Args:
        source: Samples {"image": (H, W, 3), "label": (H, W), ...}.
        buckets: The canvases, and which images go to which.
        batch_size: Rows of a batch over all processes.
        input_size: From an image's (height, width) to the size at which the net sees it.
        net_size: From that size to the one with the padding that counts as a part of the image.
        process: The number of this process and the number of processes; each gets its consecutive rows.
        maps: Further maps of a sample, such as "distance", that come along like the label.
        start: Batches to leave out.

    Yields:
        Batches of uint8 "image" (n, H, W, 3), at the top left of the bucket's canvas; uint8 "label" (n, H', W') at the
        image's own size, 255 around it; the maps, on the canvas of the label; int32 "index" (n,), -1 for rows that
        only fill the batch, or whose sample could not be read. int32 boxes (n, 4), (top, left, height, width), say
        what is real: "box" of the image, "net_box" with the padding that counts, "label_box" of the label and maps.
    """
    (rank, count), plan = process, []
    local = batch_size // count
    for bucket in buckets:
        for first in range(0, len(bucket.indices), batch_size):
            indices = [*bucket.indices[first : first + batch_size]]
            indices += [-1] * (batch_size - len(indices))
            plan.append((bucket, indices[rank * local : (rank + 1) * local]))

    def load(step) -> Batch:
        (bucket, indices), rows, failures = step, [], {}
        for index in indices:
            try:
                rows.append(_row(source, index, bucket, input_size, net_size, maps))
            except InputError as error:
                failures[index] = error
                rows.append(_row(source, -1, bucket, input_size, net_size, maps))
        return Batch({key: np.stack([row[key] for row in rows]) for key in rows[0]}, failures, bucket.exact)

    if start < len(plan):
        dataset = grain.MapDataset.source(plan[start:]).map(load)
        yield from dataset.to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=4))


def _row(source, index: int, bucket: Bucket, input_size: Resize, net_size: Resize, maps) -> dict[str, np.ndarray]:
    canvas, label_canvas = bucket.canvas, bucket.label_canvas
    if index < 0:
        size, sample = canvas, {name: np.full(label_canvas, FILLS[name]) for name in ("label", *maps)}
        sample |= {"image": np.zeros((*label_canvas, 3), np.uint8), "offsets": np.zeros((*label_canvas, 2), np.int8)}
    else:
        sample = source[index]
        size = input_size(*sample["label"].shape)
    label = sample["label"].astype(np.uint8)
    image = sample["image"] if size == label.shape else transforms.resize(sample, *size)["image"]
    row = {"image": _placed(image, canvas, 0), "label": _placed(label, label_canvas, FILLS["label"])}
    for name in maps:
        values = sample[name] if name == "offsets" else sample[name].astype(np.float32)
        row[name] = _placed(values, label_canvas, FILLS[name])
    boxes = {"box": size, "net_box": net_size(*size), "label_box": label.shape}
    row |= {name: np.array((0, 0, *box), np.int32) for name, box in boxes.items()}
    return row | {"index": np.int32(index)}


def _placed(x: np.ndarray, canvas: tuple[int, int], fill: float) -> np.ndarray:
    """Puts an array at the top left of a canvas."""
    result = np.full((*canvas, *x.shape[2:]), fill, x.dtype)
    result[: x.shape[0], : x.shape[1]] = x
    return result
