"""Reads and writes checkpoint files of PyTorch without trusting their content."""

from __future__ import annotations

import io
import mmap
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openseg_jax.converters.pickles import storage_sizes
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

    It takes bare state dicts and those in an entry, {"state_dict": ...}, {"model": ...} or the only one that there is,
    in zip files and in those from before torch 1.6. Files are loaded with weights_only=True, so nothing in them can
    run. Zip files have checksums, which are compared; the older files have none.

    Args:
        path: The .pth file.

    Returns:
        The state dict, with its tensors on the CPU.

    Raises:
        InputError: If the file is not such a checkpoint, or if PyTorch is not installed.
    """
    return read_checkpoint(path)[0]


def read_checkpoint(path: str | os.PathLike, entry: str | None = None) -> tuple[dict[str, torch.Tensor], dict]:
    """Reads what `read_state_dict` does, and the config that the original stores with it, {} if there is none.

    entry: The entry of the file that holds the state dict, such as "ema", if there are several.
    """
    torch, path = require_torch(), Path(path)
    if not path.is_file():
        raise InputError(f"there is no checkpoint file {path}")
    try:
        _check(path)
        with torch.serialization.safe_globals(_SAFE):
            content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=has_checksums(path))
    except InputError:
        raise
    except Exception as error:  # torch raises errors of many types for malformed files
        code = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if not code:
            raise InputError(_malformed(path)) from error
        raise InputError(
            f"{path} was refused: it would run code on loading ({code[1]}); "
            "if you trust it, save its tensors alone with torch.save(model.state_dict(), FILE)"
        ) from error
    config = content.get("config_dict") if isinstance(content, Mapping) else None
    state_dict = _state_dict(path, content, entry)
    for key, value in state_dict.items():
        if fault := _unusable(value):
            raise InputError(
                f"{path} holds {str(key)[:80]}, which {fault}; wanted are dense tensors with their numbers"
            )
    return dict(state_dict), dict(config) if isinstance(config, Mapping) else {}


def has_checksums(path: str | os.PathLike) -> bool:
    """Returns whether a file has checksums, as the zip files of torch 1.6 and later do."""
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _check(path: Path) -> None:
    """Raises an error if a file is damaged as far as checksums show it, or asks for more memory than its own size."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if has_checksums(path):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                _check_zip(path, content)
        else:
            for _ in range(5):  # magic number, protocol, system, content, keys; then come the storages
                storage_sizes(file, size)


def _check_zip(path: Path, content: mmap.mmap) -> None:
    """Compares each part of a zip with its checksum, and the storages of the pickle with the parts that hold them.

    PyTorch maps the file into memory, so that all of a tensor comes from the bytes that are checked here.
    """
    with zipfile.ZipFile(path) as archive:
        sizes: dict[str, int] = {}
        for member in archive.infolist():
            start = member.header_offset + 30 + sum(struct.unpack_from("<HH", content, member.header_offset + 26))
            with memoryview(content) as view, view[start : start + member.file_size] as part:
                is_stored = member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1
                if not is_stored or len(part) != member.file_size or zlib.crc32(part) != member.CRC:
                    raise InputError(
                        f"{path} is damaged: {member.filename} is not what its checksum says: download it again"
                    )
            sizes[member.filename] = member.file_size
        if sum(sizes.values()) > len(content):
            raise InputError(f"{path} is damaged: its parts overlap")
        pickles = [name for name in sizes if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise InputError(f"{path} is a zip, but none of PyTorch")
        wanted = storage_sizes(io.BytesIO(archive.read(pickles[0])), len(content))
    for key, size in wanted.items():
        if size > sizes.get(f"{pickles[0].removesuffix('.pkl')}/{key}", -1):
            raise InputError(f"{path} is damaged: the numbers of its tensor {key[:40]!r} are not all there")


def _state_dict(path: Path, content: Any, entry: str | None) -> Mapping:
    """Finds the state dict in what a file holds."""
    whole = content if isinstance(content, Mapping) else {}
    inside = [str(key) for key, value in whole.items() if _is_state_dict(value)]
    if entry is not None:
        if entry not in inside:
            raise InputError(f"{path} has no state dict {entry!r}; it has {', '.join(inside[:9]) or 'none inside'}")
        return whole[entry]
    if usual := [name for name in ("state_dict", "model") if name in inside] or (inside if len(inside) == 1 else []):
        return whole[usual[0]]
    if len(inside) > 1:
        raise InputError(f"{path} holds several state dicts, {', '.join(inside[:9])}: name one with --entry")
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path} holds a {type(content).__name__}, not a state dict")
    others = [str(key) for key, value in content.items() if not _is_tensor(value)]
    if others:
        raise InputError(
            f"{path} is not a state dict: {len(others)} of {len(content)} entries are not tensors, such as "
            f"{others[0][:80]}"
        )
    return content


def _is_tensor(value: Any) -> bool:
    return isinstance(value, require_torch().Tensor)


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(map(_is_tensor, value.values()))


def _unusable(tensor: torch.Tensor) -> str:
    """Says what keeps a tensor from being read as an array, "" if nothing does."""
    torch = require_torch()
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized or tensor.is_complex():
        return "is sparse, nested, quantized or complex"
    if tensor.is_meta:
        return "has no numbers"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "repeats its numbers"
    return ""


def write_state_dict(state_dict: Mapping[str, torch.Tensor], path: str | os.PathLike) -> None:
    """Writes {"state_dict": ...} atomically. state_dict: Tensors by key, as `export_state_dict` returns them."""
    with replacing(path) as temporary:
        try:
            require_torch().save({"state_dict": dict(state_dict)}, temporary)
        except RuntimeError as error:  # its writer's way to say that the disk is full
            raise OSError(str(error)) from error


def _malformed(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(512).lstrip()
    size = path.stat().st_size
    if size == 0:
        return f"{path} is empty"
    if start[:1] == b"<":
        return f"{path} is a web page, not a checkpoint; the download link needs to be opened in a browser"
    if start[:2] == b"PK":
        return f"{path} is damaged, or cut short at {size} bytes; download it again"
    return f"{path} is not a PyTorch checkpoint, or it is damaged ({size} bytes)"
