"""PNG: every chunk has a checksum, and only the chunks that make pixels reach a decoder."""

import struct
import zlib

from openseg_jax.data.containers.header import Header, ImageError
from openseg_jax.data.containers.tiff import exif_orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Pillow's names of the kinds of pixels, by the number of the kind and the bits of a channel.
_MODES = {
    (0, 1): "1", (0, 2): "L", (0, 4): "L", (0, 8): "L", (0, 16): "I;16", (2, 8): "RGB", (2, 16): "RGB;16",
    (3, 1): "P", (3, 2): "P", (3, 4): "P", (3, 8): "P", (4, 8): "LA", (4, 16): "LA;16", (6, 8): "RGBA",
    (6, 16): "RGBA;16",
}  # fmt: skip
_BANDS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ONCE = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_HEAD = 33  # bytes of signature and header
_INFLATION = 1032  # bytes that deflate can make of one


def read_png(data, whole: bool = True) -> Header:
    """Reads the header of a PNG; with `whole`, compares the checksums of its pixels, too.

    What is left to the decoder is whether the stream of pixels is long enough, and libpng refuses one that is not.
    Bytes behind the end of the image are ignored.

    Raises:
        ImageError: Something is missing or has changed.
    """
    chunks, stored = _chunks(data, whole)
    if b"IHDR" not in chunks:
        raise ImageError("is damaged or cut off: it has no header")
    width, height, bits, kind, compression, filters, interlace = struct.unpack(">IIBBBBB", data[chunks[b"IHDR"]])
    if (kind, bits) not in _MODES or compression or filters or interlace > 1:
        raise ImageError("is damaged: the header says kinds of pixels that a PNG cannot have")
    palette = bytes(data[chunks[b"PLTE"]]) if b"PLTE" in chunks else b""
    if len(palette) % 3 or len(palette) > 768 or (kind == 3 and not palette):
        raise ImageError("is damaged: its palette is missing or no palette")
    orientation = exif_orientation(bytes(data[chunks[b"eXIf"]])) if b"eXIf" in chunks else 1
    frames = int.from_bytes(data[chunks[b"acTL"]][:4]) if b"acTL" in chunks else 1
    transparency = bytes(data[chunks[b"tRNS"]]) if b"tRNS" in chunks else b""
    header = Header(
        "PNG",
        width,
        height,
        bits,
        _BANDS[kind],
        orientation,
        frames,
        _MODES[kind, bits],
        palette=palette,
        transparency=transparency,
        stored=stored,
    )
    header.check(len(data), _INFLATION)
    return header


def _chunks(data, whole: bool) -> tuple[dict[bytes, slice], tuple[int, int]]:
    """Returns where the content of each kind of chunk is, and where all chunks of pixels are.

    Without `whole`, a file may end after some of its pixels.
    """
    at, chunks, stored, content = len(SIGNATURE), {}, (0, 0), memoryview(data)
    while b"IEND" not in chunks:
        length, kind = struct.unpack_from(">I4s", data, at) if at + 12 <= len(data) else (0, b"")
        end = at + 12 + length
        if end > len(data) and kind in (b"IDAT", b"") and not whole:
            break
        if not kind:
            raise ImageError("is cut off: the chunk IEND, with which a PNG ends, is missing")
        if end > len(data):
            raise ImageError(f"is damaged or cut off: {length} bytes should follow, and {len(data) - at - 12} do")
        if (whole or kind != b"IDAT") and zlib.crc32(content[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise ImageError("is damaged: a checksum in it is wrong, so some of its bytes have changed")
        if not chunks and (kind, length) != (b"IHDR", 13):
            raise ImageError("is damaged: a PNG begins with its header")
        if kind == b"IDAT" and stored[1] in (0, at):
            stored = stored[0] or at, end
        elif kind in _ONCE and (kind in chunks or (kind == b"PLTE" and stored[1])):
            raise ImageError(f"is damaged: its chunk {kind.decode()} is in the wrong place")
        elif not kind[0] & 32 and kind not in _ONCE:  # a capital: what cannot show the image without it must refuse it
            raise ImageError("is damaged: it has chunks that no PNG has")
        chunks.setdefault(kind, slice(at + 8, end - 4))
        at = end
    if whole and not stored[1]:
        raise ImageError("is damaged: it has no pixels")
    return chunks, stored


def bare(encoded: bytes, header: Header, grey: bool) -> bytes:
    """Returns a PNG of nothing but header, palette and pixels; with `grey`, the indices into a palette as grey values.

    Indices of fewer than 8 bits are then spread: the upper bits of a value are the index.
    """
    start, end = header.stored
    head = bytearray(encoded[:_HEAD])
    palette = _chunk(b"PLTE", header.palette) if header.palette and not grey else b""
    if not grey and len(encoded) == _HEAD + len(palette) + end - start + len(_END):  # it is so already
        return encoded
    if grey:
        head[25] = 0
        head[29:] = zlib.crc32(head[12:29]).to_bytes(4)
    return b"".join([head, palette, memoryview(encoded)[start:end], _END])


def _chunk(kind: bytes, content: bytes) -> bytes:
    return b"".join([len(content).to_bytes(4), kind, content, zlib.crc32(kind + content).to_bytes(4)])


_END = _chunk(b"IEND", b"")
