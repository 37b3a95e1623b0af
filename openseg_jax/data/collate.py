"""Collation brings the samples of a batch to one size, as the original's collate function does."""

import dataclasses

import numpy as np

from openseg_jax.config import AugmentSettings, CollateSettings
from openseg_jax.data import transforms
from openseg_jax.data.transforms import Size, Step
from openseg_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Collate(CollateSettings):
    """Chooses the size of a batch, and how its samples get there."""

    def target(self, rng: np.random.Generator) -> Size:
        """Returns the (height, width) of a batch."""
        size = self.size
        if self.mode == "multi_size":
            size = self.sizes[int(rng.integers(0, len(self.sizes) - 1, endpoint=True))]
        return tuple(-(-side // self.stride) * self.stride for side in size)

    def draw(self, size: Size, target: Size, rng: np.random.Generator) -> list[Step]:
        """Returns the steps that scale or pad a sample to the size of its batch; the last one adds its "box"."""
        steps = []
        if size != target and self.align != "only_pad":
            ratios = [wanted / found for wanted, found in zip(target, size, strict=True)]
            if self.align == "scale_and_pad":
                ratios = [min(ratios)] * 2
            size = tuple(max(round(side * ratio), 1) for side, ratio in zip(size, ratios, strict=True))
            steps.append(Step(transforms.scale, height=size[0], width=size[1]))
        free = target[0] - size[0], target[1] - size[1]
        if min(free) < 0:
            raise InputError(
                f"a sample of {size[0]}x{size[1]} (height x width) does not fit into a batch of "
                f"{target[0]}x{target[1]}: crop it first, or let collate.align scale it"
            )
        top, left = self._place(free, rng) if any(free) else (0, 0)
        return [*steps, Step(transforms.pad, top=top, left=left, height=target[0], width=target[1])]

    def _place(self, free: Size, rng: np.random.Generator) -> Size:
        if self.place == "random":
            left = int(rng.integers(0, free[1], endpoint=True))
            return int(rng.integers(0, free[0], endpoint=True)), left
        if self.place == "pad_center":
            return free[0] // 2, free[1] // 2
        if self.place == "pad_border":
            return (0, 0) if rng.integers(0, 1, endpoint=True) else free
        return free if self.place == "pad_left_up" else (0, 0)


def make_collate(settings: AugmentSettings) -> Collate:
    """Returns how the samples of a training batch get their common size, by default that of the crop."""
    return Collate(**vars(settings.collate) | {"size": settings.collate.size or settings.crop})
