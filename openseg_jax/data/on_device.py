"""Augmentation on the device, for which the host only decodes and sends the part of an image that the crop needs.

The draws are those of the host (`TrainSamples.steps`), so both give the same samples: images within one grey level,
because OpenCV computes in fixed point, and labels except for pixels whose source lies exactly between two. Two resizes
in a chain become one.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from openseg_jax.config import AugmentSettings
from openseg_jax.data import transforms
from openseg_jax.data.pipeline import TrainSamples
from openseg_jax.data.transforms import Size, Step
from openseg_jax.errors import InputError
from openseg_jax.labels.classes import IGNORE
from openseg_jax.models.resize import cubic_taps, interpolate


@dataclasses.dataclass
class Axis:
    """Where the pixels of one axis of the result come from."""

    n: int  # the pixels of the source
    m: int  # the pixels to which it is resized
    start: int  # the first of these in the result
    count: int  # how many of them the result shows
    place: int = 0  # where the first one stands in the result

    def resized(self, m: int) -> "Axis":
        return Axis(self.n, m, 0, m)

    def cropped(self, start: int, count: int) -> "Axis":
        return Axis(self.n, self.m, self.start + start, count)

    def window(self) -> tuple[int, int]:
        """Returns the first and the last + 1 pixel of the source that the four taps of cubic interpolation need."""
        first = int((self.start + 0.5) * self.n / self.m - 0.5) - 2
        last = int((self.start + self.count - 0.5) * self.n / self.m - 0.5) + 4
        return max(first, 0), min(last, self.n)

    def numbers(self) -> list[int]:
        return [self.n, self.m, self.start, self.count, self.place, self.window()[0]]


@dataclasses.dataclass
class Plan:
    """All steps of one sample, as one resampling."""

    rows: Axis
    columns: Axis
    mirrored: bool = False
    shift: int = 0

    @classmethod
    def of(cls, steps: Sequence[Step], size: Size) -> "Plan":
        """Builds the plan of these steps for a sample of this (height, width)."""
        plan = cls(*(Axis(side, side, 0, side) for side in size))
        for step in steps:
            plan._add(step)
        return plan

    def _add(self, step: Step) -> None:
        a = step.keywords
        if step.func is transforms.resize:
            if (self.rows.count, self.columns.count) != (self.rows.m, self.columns.m):
                raise InputError("a crop cannot be resized on the device: put resizing first in augment.chain")
            self.rows, self.columns = self.rows.resized(a["height"]), self.columns.resized(a["width"])
        elif step.func is transforms.crop:
            left = self.columns.count - a["left"] - a["width"] if self.mirrored else a["left"]
            self.rows = self.rows.cropped(a["top"], a["height"])
            self.columns = self.columns.cropped(left, a["width"])
        elif step.func is transforms.flip:
            self.mirrored = not self.mirrored
        elif step.func is transforms.brightness:
            self.shift = a["shift"]
        elif step.func is transforms.pad:
            self.rows.place, self.columns.place = a["top"], a["left"]
        else:
            raise InputError(
                f"{step.func.__name__} does not run on the device, only resize, crop, flip, brightness, pad do: take "
                "it out of augment.chain, or leave augment.on_device off"
            )

    def numbers(self) -> np.ndarray:
        """Returns int32 (14,), which travels to the device."""
        return np.array([*self.rows.numbers(), *self.columns.numbers(), self.mirrored, self.shift], np.int32)


@dataclasses.dataclass(frozen=True)
class RawSamples:
    """The samples of `samples` before augmentation: windows of the source on a canvas, and the plans.

    A sample whose window is larger than the canvas (height, width) is augmented on the host, which only costs time.
    """

    samples: TrainSamples
    canvas: Size

    @property
    def batch_size(self) -> int:
        return self.samples.batch_size

    def __getitem__(self, position: int) -> dict[str, np.ndarray]:
        source, index = self.samples.source, self.samples.index(position)
        sample = None if hasattr(source, "window") else source[index]
        size = transforms.size_of(sample) if sample else source.size(index)
        steps = self.samples.steps(position, size)
        plan = Plan.of(steps, size)
        (top, bottom), (left, right) = plan.rows.window(), plan.columns.window()
        if bottom - top > self.canvas[0] or right - left > self.canvas[1]:
            sample = transforms.apply(steps[:-1], sample or source[index])
            plan = Plan.of(steps[-1:], transforms.size_of(sample))
        elif sample:
            sample = transforms.crop(sample, top, left, bottom - top, right - left)
        else:
            sample = source.window(index, top, left, bottom - top, right - left)
        height, width = transforms.size_of(sample)
        image, label = np.zeros((*self.canvas, 3), np.uint8), np.zeros(self.canvas, np.uint8)
        image[:height, :width], label[:height, :width] = sample["image"], sample["label"]
        return {"image": image, "label": label, "plan": plan.numbers()}


def canvas_for(settings: AugmentSettings) -> Size:
    """Returns the (height, width) that holds the window of a crop from an image at the smallest scale."""
    stretch = min(settings.aspect[0], 1 / settings.aspect[1]) ** 0.5
    # The canvas is never smaller than the crop, so that it holds the samples that the host augments.
    sides = (side / min(settings.scale[0] * stretch, 1) + 8 for side in settings.crop)
    return tuple(-(-int(side) // 64) * 64 for side in sides)


@functools.partial(jax.jit, static_argnames=("size", "swap"))
def augment(batch: dict[str, jax.Array], *, size: Size, swap: tuple[tuple[int, int], ...] = ()) -> dict[str, jax.Array]:
    """Turns a batch of `RawSamples` into one of `TrainSamples`.

    Args:
        batch: "image" uint8 (N, h, w, 3), "label" uint8 (N, h, w) and "plan" int32 (N, 14).
        size: The (height, width) of the result: "image", "label" and "box", int32 (N, 4).
        swap: Pairs of classes that exchange names in a mirror.
    """
    plan = batch["plan"]
    mirrored, shift = plan[:, 12], plan[:, 13]
    rows = _Positions(plan[:, :6], size[0], jnp.zeros_like(mirrored), batch["image"].shape[1])
    columns = _Positions(plan[:, 6:12], size[1], mirrored, batch["image"].shape[2])

    image = batch["image"].astype(jnp.float32)
    for axis, positions in ((1, rows), (2, columns)):
        image = interpolate(image, *positions.cubic(), axis)
    image = jnp.clip(jnp.rint(image), 0, 255) + shift[:, None, None, None]

    label = jnp.take_along_axis(batch["label"], rows.nearest()[:, :, None], axis=1)
    label = jnp.take_along_axis(label, columns.nearest()[:, None, :], axis=2)
    label = jnp.where(mirrored[:, None, None] == 1, jnp.asarray(transforms.exchange_table(swap))[label], label)
    inside = rows.inside[:, :, None] & columns.inside[:, None, :]
    return {
        "image": jnp.where(inside[..., None], jnp.clip(image, 0, 255), 0).astype(jnp.uint8),
        "label": jnp.where(inside, label, IGNORE).astype(jnp.uint8),
        "box": jnp.stack([rows.place, columns.place, rows.count, columns.count], axis=1),
    }


class _Positions:
    """The place in the source of each of `length` result pixels of an axis, for each of N samples."""

    def __init__(self, numbers: jax.Array, length: int, mirrored: jax.Array, limit: int):
        self.n, self.m, start, count, place, self.origin = (numbers[:, i, None] for i in range(6))
        self.place, self.count, self.limit = place[:, 0], count[:, 0], limit
        here = jnp.arange(length)[None] - place
        self.inside = (here >= 0) & (here < count)
        here = jnp.where(mirrored[:, None] == 1, count - 1 - here, here)
        self.resized = start + jnp.clip(here, 0, count - 1)

    def cubic(self) -> tuple[jax.Array, jax.Array]:
        indices, weights = cubic_taps(self.resized, self.n, self.m)
        return self._in_window(indices), weights

    def nearest(self) -> jax.Array:
        return self._in_window(self.resized * self.n // self.m)

    def _in_window(self, indices: jax.Array) -> jax.Array:
        return jnp.clip(indices - self.origin, 0, self.limit - 1)
