"""Reading and writing checkpoint files of PyTorch, trusting nothing in them."""

from __future__ import annotations

import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from openseg_jax.errors import InputError

# The original stores its metrics, numpy scalars, beside the weights. Rebuilding a scalar runs no code of the file.
_SAFE = [
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")),
]


def read_state_dict(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint: of {"state_dict": ...}, {"model": ...} or a bare state dict, on the CPU.

    Reads zip and legacy (before torch 1.6) files, with weights_only=True: nothing in the file can run.
    Raises InputError, with one sentence, for anything else.
    """
    return read_checkpoint(path)[0]


def read_checkpoint(path: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict]:
    """As `read_state_dict`, and the config that the original stores beside it, {} if there is none."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no checkpoint file {path}")
    try:
        with torch.serialization.safe_globals(_SAFE):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(_refusal(path, str(error))) from error
    except Exception as error:  # torch raises many kinds on malformed files
        raise InputError(_malformed(path)) from error
    config = content.get("config_dict") if isinstance(content, Mapping) else None
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path} holds a {type(content).__name__}, not a state dict")
    others = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise InputError(
            f"{path} holds no state dict: {len(others)} of {len(content)} entries are not tensors, such as {others[0]}"
        )
    return dict(content), dict(config) if isinstance(config, Mapping) else {}


def write_state_dict(state_dict: Mapping[str, torch.Tensor], path: str | os.PathLike) -> None:
    """Writes {"state_dict": ...} under a temporary name first: the file is there whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({"state_dict": dict(state_dict)}, file)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _refusal(path: Path, reason: str) -> str:
    name = re.search(r"GLOBAL ([\w.]+)", reason)
    if name:
        return (
            f"{path} was refused: it would run code on loading ({name.group(1)}); "
            "save its tensors alone, torch.save(model.state_dict(), FILE), where you trust it"
        )
    return _malformed(path)


def _malformed(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(512).lstrip()
    size = path.stat().st_size
    if size == 0:
        return f"{path} is empty"
    if start[:1] == b"<":
        return f"{path} is a web page, not a checkpoint; the download link needs to be opened in a browser"
    if start[:2] == b"PK" and not zipfile.is_zipfile(path):
        return f"{path} is cut short at {size} bytes; download it again"
    return f"{path} is no PyTorch checkpoint, or a damaged one ({size} bytes)"
