"""Reads arrays of numbers from MATLAB files of version 5, which SciPy's reader may not survive when they are damaged.

A file is a header of 128 bytes and elements, each a tag (kind, length) and its content. A variable is an element of
elements: flags, dimensions, name, numbers. Most writers compress each variable, and then it has a checksum.
"""

import math
import struct
import zlib
from collections.abc import Collection, Iterator

import numpy as np

from openseg_jax.data.containers import max_pixels

_MATRIX, _COMPRESSED, _NAME, _INT32, _UINT32 = 14, 15, 1, 5, 6
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX = 8
_INFLATION = 1032  # bytes that deflate can make of one
_BYTES_PER_PIXEL = 4  # of the largest image that is allowed: larger variables are refused


class MatlabError(Exception):
    """Why a file holds no such arrays, as a clause: "is cut off"."""


def read_matlab(encoded: bytes, names: Collection[str]) -> dict[str, np.ndarray]:
    """Returns those variables of a file that have these names, real numbers of at least two dimensions.

    Raises:
        MatlabError: The file is damaged, of another version or too large, or holds no arrays of numbers by the names.
    """
    if len(encoded) < 128 or encoded[126:128] not in (b"IM", b"MI"):
        raise MatlabError("is damaged, or no MATLAB file of version 5 (save -v7)")
    order = "<" if encoded[126:128] == b"IM" else ">"
    if struct.unpack_from(f"{order}H", encoded, 124)[0] != 0x0100:
        raise MatlabError("is a MATLAB file of another version than 5: save it with -v7")
    found: dict[str, np.ndarray] = {}
    try:
        for kind, content in _elements(encoded[128:], order, padded=False):
            if kind == _COMPRESSED:
                kind, content = _inflated(content, order)
            if kind != _MATRIX:
                raise MatlabError("is damaged: it holds something else than variables")
            name, variable = _variable(content, order, names)
            if name in found:
                raise MatlabError(f"holds two variables {name!r}")
            if variable is not None:
                found[name] = variable
    except (struct.error, zlib.error, ValueError) as error:
        raise MatlabError("is damaged or cut off") from error
    for name in names:
        if name not in found:
            raise MatlabError(f"holds no array {name!r}")
    return found


def _elements(content, order: str, padded: bool = True) -> Iterator[tuple[int, memoryview]]:
    """Yields kind and content of the elements that follow each other, on multiples of 8 bytes if they are padded."""
    content, at = memoryview(content), 0
    while at < len(content):
        (kind,) = struct.unpack_from(f"{order}I", content, at)
        if kind >> 16:  # a small element: the length and at most 4 bytes in the tag itself
            kind, length, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            (length,) = struct.unpack_from(f"{order}I", content, at + 4)
            start = at + 8
            end = start + length + (-length % 8 if padded else 0)
        if length > end - start or end > len(content):
            raise ValueError("an element is longer than what holds it")
        yield kind, content[start : start + length]
        at = end


def _inflated(content: memoryview, order: str) -> tuple[int, memoryview]:
    """Returns kind and content of the element that a compressed one holds, after comparing the checksum."""
    stream = zlib.decompressobj()
    kind, length = struct.unpack(f"{order}II", stream.decompress(content, 8))
    if length > _BYTES_PER_PIXEL * max_pixels() or length > _INFLATION * len(content):
        raise MatlabError(f"is far too large: a variable in it has {length} bytes")
    rest = stream.decompress(stream.unconsumed_tail, length + 1)
    if not stream.eof:
        stream.decompress(stream.unconsumed_tail, 1)
    if len(rest) != length or not stream.eof:
        raise ValueError("the compressed variable is longer or shorter than it says")
    return kind, memoryview(rest)


def _variable(content: memoryview, order: str, names: Collection[str]) -> tuple[str, np.ndarray | None]:
    """Returns the name of a variable, and the array if it is among the names."""
    parts = _elements(content, order)
    (kind, flags), (dims_kind, dims), (name_kind, name) = (next(parts, (0, b"")) for _ in range(3))
    if (kind, len(flags), dims_kind, name_kind) != (_UINT32, 8, _INT32, _NAME) or not len(dims) >= 8:
        raise ValueError("a variable begins otherwise")
    name = bytes(name).decode("ascii")
    if name not in names:
        return name, None
    (flags,), shape = struct.unpack_from(f"{order}I", flags), struct.unpack(f"{order}{len(dims) // 4}i", dims)
    stored, dtype = list(parts), _CLASSES.get(flags & 0xFF)
    if not dtype or flags >> 8 & _COMPLEX or len(stored) != 1 or stored[0][0] not in _NUMBERS:
        raise MatlabError(f"holds no array of real numbers under the name {name!r}")
    kind, numbers = stored[0]
    found = np.frombuffer(numbers, order + _NUMBERS[kind])
    if min(shape) < 0 or math.prod(shape) != len(found):
        raise ValueError("the dimensions are not those of the numbers")
    return name, found.reshape(shape, order="F").astype(dtype, copy=False)
