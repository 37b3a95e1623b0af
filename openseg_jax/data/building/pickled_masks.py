"""Reads the .pth files of PyTorch-Encoding, pickles of {int: PIL image}, without running anything in them."""

import pickle
import zipfile
from pathlib import Path

import numpy as np

from openseg_jax.data.building.builder import png
from openseg_jax.errors import InputError


def read_masks(path: Path) -> dict[int, bytes]:
    """Reads the masks of a file as PNGs.

    Newer versions of torch save a zip that holds the pickle, older ones several pickles, of which one is the dict. The
    official file of train takes 1 GB of memory while it is read.

    Raises:
        InputError: The file holds anything but a dict of grey images.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                with archive.open(name) as file:
                    return _read(file)
        with path.open("rb") as file:
            return _read(file)
    except InputError:
        raise
    except Exception as error:  # unpickling can fail in any way
        raise InputError(
            f"{path} is not a file of masks of PyTorch-Encoding, or is damaged ({type(error).__name__}: {error})"
        ) from error


def _read(file) -> dict[int, bytes]:
    while True:
        content = _Unpickler(file, encoding="latin1").load()
        if isinstance(content, dict) and content and all(isinstance(key, int) for key in content):
            return {key: mask.png for key, mask in content.items()}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise InputError(f"the file of masks calls {module}.{name}, which no mask needs: do not trust this file")


class _Mask:
    """Takes the place of PIL's Image, so that no code of PIL runs, and keeps the pixels compressed."""

    def __setstate__(self, state: list) -> None:
        _, mode, (width, height), _, pixels = state[:5]
        if mode not in ("L", "P"):
            raise InputError(f"the file of masks holds an image of mode {mode} instead of a mask of 8 bits")
        pixels = pixels.encode("latin1") if isinstance(pixels, str) else pixels
        self.png = png(np.frombuffer(pixels, np.uint8).reshape(height, width))


def _bytes_as_text(text: str, encoding: str) -> str:
    """Returns the text in which pickles of protocol 2 write bytes; a copy, which unpickling keeps, would double it."""
    return text


_ALLOWED = {
    ("PIL.Image", "Image"): _Mask,
    ("PIL.PngImagePlugin", "PngImageFile"): _Mask,
    ("_codecs", "encode"): _bytes_as_text,
    ("collections", "OrderedDict"): dict,
}
