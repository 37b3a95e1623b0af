"""Offsets of images: by the SegFix net of a checkpoint, or from files."""

import dataclasses
from pathlib import Path

from openseg_jax import sharding
from openseg_jax.config import EvalSettings
from openseg_jax.converters import load
from openseg_jax.data.offset_files import check_size, find_offsets, read_offsets
from openseg_jax.errors import InputError
from openseg_jax.inference.buckets import Size
from openseg_jax.inference.readers import Offsets
from openseg_jax.inference.runner import Runner


def offset_runner(
    checkpoint: str | Path, source, *, window: Size | None = None, stride: Size | None = None, batch_size: int = 0
) -> tuple[Runner, dict]:
    """Returns a runner whose items have "offsets", int8 (H, W, 2), and the variables to run it with.

    Args:
        checkpoint: A folder with a SegFix net.
        source: The images.
        window: (height, width) of windows to predict in; the whole image at once if not given.
        stride: Between windows; a third of them, rounded down, if not given, as in the original.
        batch_size: Images at a time; 0 is one per device.

    Raises:
        InputError: If the checkpoint holds another net, or a stride has no window.
    """
    model, variables, metadata = load(checkpoint)
    mesh = sharding.make_mesh()
    if stride and not window:
        raise InputError(f"a stride of {stride} is that of windows: give their size, too")
    settings = EvalSettings(batch_size=batch_size or mesh.size)
    if window:
        stride = stride or tuple(side // 3 for side in window)
        settings = dataclasses.replace(settings, protocol="crops", crop=window, crop_stride=stride)
    align_axis = bool(metadata.config and metadata.config["loss"]["segfix"]["align_axis"])
    runner = Runner(model, source, settings, {"offsets": Offsets(align_axis)}, metadata.normalization, mesh)
    return runner, sharding.put_replicated(mesh, variables)


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
