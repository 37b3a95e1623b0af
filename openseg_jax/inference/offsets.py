"""Offsets of images by the SegFix net of a checkpoint."""

import dataclasses
from pathlib import Path

from openseg_jax import sharding
from openseg_jax.checkpoints import load
from openseg_jax.config import EvalSettings
from openseg_jax.errors import InputError
from openseg_jax.inference.readers import Offsets
from openseg_jax.inference.runner import Runner


def offset_runner(
    checkpoint: str | Path,
    source,
    *,
    window: tuple[int, int] | None = None,
    stride: tuple[int, int] | None = None,
    batch_size: int = 0,
) -> tuple[Runner, dict]:
    """Returns a runner whose items have "offsets", int8 (H, W, 2), and the variables to run it with.

    Args:
        checkpoint: A folder with a SegFix net.
        source: The images.
        window: The (height, width) of windows to predict in; the whole image at once if not given.
        stride: Between windows; a third of them, rounded down, if not given, as in the original.
        batch_size: Images at a time; 0 is one per device.

    Raises:
        InputError: If the checkpoint holds another net, or a stride has no window.
    """
    model, variables, metadata = load(checkpoint)
    mesh = sharding.make_mesh()
    settings = EvalSettings(batch_size=batch_size or mesh.size)
    if window is not None:
        stride = stride or tuple(side // 3 for side in window)
        settings = dataclasses.replace(settings, protocol="crops", crop=window, crop_stride=stride)
    elif stride is not None:
        raise InputError(f"a stride of {stride} is that of windows: give their size, too")
    align_axis = bool(metadata.config and metadata.config["loss"]["segfix"]["align_axis"])
    readers = {"offsets": Offsets(align_axis)}
    runner = Runner(model, source, settings, readers, metadata.normalization, mesh)
    return runner, sharding.put_replicated(mesh, variables)
