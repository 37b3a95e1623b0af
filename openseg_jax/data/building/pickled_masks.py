"""Reads the .pth files of PyTorch-Encoding, pickles of {int: PIL image}, without running anything in them."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, ClassVar

import numpy as np

from openseg_jax.data.building.archives import Zip, explained
from openseg_jax.data.building.builder import png
from openseg_jax.errors import InputError
from openseg_jax.text import one_line

_PICKLES = 5  # in an older file: a number, the version, the machine, the dict and the keys of tensors


def read_masks(path: Path) -> dict[int, bytes]:
    """Reads the masks of a file as PNGs.

    Newer versions of torch save a zip that holds the pickle, older ones several pickles, of which one is the dict. The
    official file of train takes 1 GB of memory while it is read.

    Raises:
        InputError: The file holds anything but a dict of grey images.
    """
    try:
        if zipfile.is_zipfile(path):
            with explained(path):
                archive = Zip(path)
                with archive.zip:
                    name = next((name for name in archive.names() if name.endswith("data.pkl")), "data.pkl")
                    with archive.open(name) as file:
                        return _read(_Bounded(file, archive.size(name)))
        with path.open("rb") as file:
            return _read(_Bounded(file, path.stat().st_size))
    except InputError:
        raise
    except Exception as error:  # unpickling can fail in any way
        reason = one_line(f"{type(error).__name__}: {error}")
        raise InputError(f"{path} is not a file of masks of PyTorch-Encoding, or is damaged ({reason})") from error


def _read(file: "_Bounded") -> dict[int, bytes]:
    for _ in range(_PICKLES):
        content = _Unpickler(file, encoding="latin1").load()
        if isinstance(content, dict) and content and all(isinstance(key, int) for key in content):
            if not all(0 <= key < 10**12 and isinstance(mask, _Mask) for key, mask in content.items()):
                break
            return {key: mask.png for key, mask in content.items()}
    raise ValueError("it holds no dict from numbers to masks")


class _Bounded:
    """A file of which one cannot ask for more than it has, for which room would be made first."""

    def __init__(self, file: IO[bytes], size: int):
        self.file, self.left = file, size

    def read(self, count: int) -> bytes:
        self.left -= count
        if self.left < 0:
            raise EOFError("it ends too early")
        parts = []
        while count and (part := self.file.read(min(count, 1 << 12))):  # a zip unpacks little at a time
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def readline(self) -> bytes:
        line = self.file.readline(1 << 12)
        self.left -= len(line)
        return line


class _Mask:
    """Takes the place of PIL's Image, so that no code of PIL runs, and keeps the pixels compressed."""

    png: bytes

    def __setstate__(self, state: list) -> None:
        _, mode, (width, height), _, pixels = state[:5]
        if mode not in ("L", "P"):
            raise ValueError(f"it holds an image of mode {mode!a:.20} instead of a mask of 8 bits")
        if min(width, height) < 1:
            raise ValueError("a mask has no pixels")
        pixels = pixels.encode("latin1") if isinstance(pixels, str) else pixels
        self.png = png(np.frombuffer(pixels, np.uint8).reshape(height, width))


def _bytes_as_text(text: str, encoding: str) -> str:
    """Returns the text in which pickles of protocol 2 write bytes; a copy, which unpickling keeps, would double it."""
    if not isinstance(text, str):
        raise TypeError("bytes are written as text")
    return text


def _ordered_dict() -> dict:
    return {}


_ALLOWED = {
    ("PIL.Image", "Image"): _Mask,
    ("PIL.PngImagePlugin", "PngImageFile"): _Mask,
    ("_codecs", "encode"): _bytes_as_text,
    ("collections", "OrderedDict"): _ordered_dict,
}
_OPERATIONS = (
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINSTRING SHORT_BINSTRING "
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "EMPTY_LIST APPEND APPENDS EMPTY_DICT BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE "
    "NEWOBJ"
)
_CODES = [getattr(pickle, name)[0] for name in _OPERATIONS.split()]


class _Unpickler(pickle._Unpickler):
    """The unpickler in Python, with the operations that files of masks need.

    Its memo is a dict, where that of the unpickler in C has room for the highest number that a file mentions.
    """

    stack: list
    pop_mark: Callable[[], list]
    dispatch: ClassVar[dict] = {code: pickle._Unpickler.dispatch[code] for code in _CODES}

    def find_class(self, module: str, name: str):
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        called = one_line(f"{module}.{name}")[:80]
        raise pickle.UnpicklingError(f"it calls {called}, which no mask needs: do not trust it")

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Mask):
            raise TypeError("only masks have a state")
        self.stack[-1].__setstate__(state)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def _set(self, items: list) -> None:
        # Nested tuples, of which a few bytes make a key, would take for ever to hash.
        if not isinstance(self.stack[-1], dict) or not all(isinstance(key, int | str) for key in items[::2]):
            raise TypeError("keys are numbers or text")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    dispatch |= {pickle.BUILD[0]: load_build, pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems}
