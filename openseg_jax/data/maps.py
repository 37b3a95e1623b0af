"""Further maps of a sample, as the original's preparation scripts write them beside its label."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import scipy.io

from openseg_jax.data.images import read_mask
from openseg_jax.errors import InputError


def read_edge(split: Path, name: str, size: tuple[int, int], **_) -> dict[str, np.ndarray]:
    """{"edge": uint8 (H, W), 1 on class boundaries} from SPLIT/edge/NAME.png, which is 255 there, at any size."""
    edge = (read_mask(split / "edge" / f"{name}.png") == 255).astype(np.uint8)
    return {"edge": cv2.resize(edge, size[::-1], interpolation=cv2.INTER_NEAREST)}


def read_offset(split: Path, name: str, size: tuple[int, int], *, folder: str) -> dict[str, np.ndarray]:
    """{"distance": int32 (H, W) pixels, "angle": float64 (H, W) degrees} from SPLIT/FOLDER/NAME.mat."""
    path = split / folder / f"{name}.mat"
    try:
        content = scipy.io.loadmat(path, variable_names=("depth", "dir_deg", "deg_reduce"))
        maps = {
            "distance": content["depth"].astype(np.int32),
            "angle": float(content["deg_reduce"].item()) * content["dir_deg"] - 180,
        }
    except (OSError, ValueError, KeyError, scipy.io.matlab.MatReadError) as error:
        raise InputError(f"cannot read depth, dir_deg and deg_reduce from {path}: {error}") from error
    if any(x.shape != size for x in maps.values()):
        raise InputError(f"{path} is of size {maps['distance'].shape}, its label {size} (height, width)")
    return maps


MAPS = {"edge": read_edge, "offset": read_offset}
