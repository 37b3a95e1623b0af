"""Reads and writes checkpoint files of PyTorch without trusting their content."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openseg_jax.errors import InputError
from openseg_jax.files import replacing

if TYPE_CHECKING:
    import torch

# The original stores its metrics, numpy scalars, beside the weights. Rebuilding a scalar runs no code of the file.
_scalar: Any = np.float32(0).__reduce__()[0]
_SAFE: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")),
]


def require_torch():
    """Imports and returns torch; raises InputError if it is not installed."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            "PyTorch checkpoints need PyTorch, which is not installed: pip install 'openseg_jax[torch]'"
        ) from error
    return torch


def read_state_dict(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Reads the tensors of a PyTorch checkpoint.

    It takes {"state_dict": ...}, {"model": ...} and bare state dicts, in zip files and in those from before torch 1.6.
    Files are loaded with weights_only=True, so nothing in them can run.

    Args:
        path: The .pth file.

    Returns:
        The state dict, with its tensors on the CPU.

    Raises:
        InputError: If the file is not such a checkpoint, or if PyTorch is not installed.
    """
    return read_checkpoint(path)[0]


def read_checkpoint(path: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict]:
    """Reads what `read_state_dict` does, and the config that the original stores with it, {} if there is none."""
    torch, path = require_torch(), Path(path)
    if not path.is_file():
        raise InputError(f"there is no checkpoint file {path}")
    try:
        with torch.serialization.safe_globals(_SAFE):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many types for malformed files
        code = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if not code:
            raise InputError(_malformed(path)) from error
        raise InputError(
            f"{path} was refused: it would run code on loading ({code[1]}); "
            "if you trust it, save its tensors alone with torch.save(model.state_dict(), FILE)"
        ) from error
    whole = content if isinstance(content, Mapping) else {}
    config = whole.get("config_dict")
    content = next((whole[key] for key in ("state_dict", "model") if isinstance(whole.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path} holds a {type(content).__name__}, not a state dict")
    others = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise InputError(
            f"{path} is not a state dict: {len(others)} of {len(content)} entries are not tensors, such as {others[0]}"
        )
    return dict(content), dict(config) if isinstance(config, Mapping) else {}


def write_state_dict(state_dict: Mapping[str, torch.Tensor], path: str | os.PathLike) -> None:
    """Writes {"state_dict": ...} atomically. state_dict: Tensors by key, as `export_state_dict` returns them."""
    with replacing(path) as temporary:
        require_torch().save({"state_dict": dict(state_dict)}, temporary)


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
    return f"{path} is not a PyTorch checkpoint, or it is damaged ({size} bytes)"
