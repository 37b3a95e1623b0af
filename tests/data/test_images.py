"""Kinds of image files: each is read correctly, or refused with one sentence."""

import io
import time
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from openseg_jax.data.images import decode_image, decode_mask, read_size
from openseg_jax.errors import InputError


def encode(opened: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    opened.save(buffer, kind, **options)
    return buffer.getvalue()


def encode_16_bits(array: np.ndarray, suffix: str) -> bytes:
    return cv2.imencode(suffix, array[..., ::-1] if array.ndim == 3 else array)[1].tobytes()


def pillow(encoded: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(encoded)) as opened:
        return np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))


def refused(function, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    assert "FILE" in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def colors() -> np.ndarray:
    """uint8 (24, 40, 3), smooth, so that JPEG changes it little; no two directions look the same."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    return cv2.resize(noise, (40, 24), interpolation=cv2.INTER_LINEAR)


# ---------------------------------------------------------------------------------------------------------------------
# Images


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_orientation(colors, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = encode(Image.fromarray(colors), kind, exif=exif)
    image = decode_image(encoded, "FILE")
    np.testing.assert_allclose(image.astype(int), pillow(encoded).astype(int), atol=2)
    assert image.shape == ((24, 40, 3) if orientation < 5 else (40, 24, 3))
    assert read_size(io.BytesIO(encoded)) == image.shape[:2]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(colors, kind):
    encoded = encode(Image.fromarray(colors).convert("CMYK"), kind, **({"quality": 95} if kind == "JPEG" else {}))
    np.testing.assert_allclose(decode_image(encoded, "FILE").astype(int), pillow(encoded).astype(int), atol=3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "JPEG"])
def test_grey(colors, kind):
    encoded = encode(Image.fromarray(colors).convert("L"), kind)
    image = decode_image(encoded, "FILE")
    assert image.shape == (24, 40, 3)
    np.testing.assert_array_equal(image, pillow(encoded))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "1"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_palettes_and_bits(colors, mode, kind):
    """Alpha is dropped, not mixed with a background."""
    opened = Image.fromarray(colors)
    opened = opened.quantize(32) if mode == "P" else opened.convert(mode)
    if mode in ("LA", "RGBA"):
        opened.putalpha(Image.fromarray(np.arange(960, dtype=np.uint16).reshape(24, 40).astype(np.uint8)))
    encoded = encode(opened, kind)
    expected = np.asarray(opened.convert("L").convert("RGB")) if mode == "LA" else pillow(encoded)
    np.testing.assert_array_equal(decode_image(encoded, "FILE"), expected)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits(colors, suffix, channels):
    """The upper 8 bits count."""
    deep = colors.astype(np.uint16) * 256 + 100
    encoded = encode_16_bits(deep if channels == 3 else deep[..., 0], suffix)
    expected = colors if channels == 3 else np.repeat(colors[..., :1], 3, axis=-1)
    np.testing.assert_allclose(decode_image(encoded, "FILE").astype(int), expected, atol=1)


def test_floating_point_is_refused(colors, capfd):
    encoded = cv2.imencode(".tif", colors.astype(np.float32) / 255)[1].tobytes()
    assert "is not a readable image" in refused(decode_image, encoded, "FILE")
    capfd.readouterr()  # OpenCV's own remarks


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "JPEG"])
def test_one_pixel(kind):
    encoded = encode(Image.new("RGB", (1, 1), (200, 100, 50)), kind)
    np.testing.assert_allclose(decode_image(encoded, "FILE").astype(int), [[[200, 100, 50]]], atol=2)
    assert read_size(io.BytesIO(encoded)) == (1, 1)


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_several_images_in_one_file(colors, kind):
    opened = Image.fromarray(colors)
    encoded = encode(opened, kind, save_all=True, append_images=[ImageOps.mirror(opened)])
    assert "FILE holds 2 images" in refused(decode_image, encoded, "FILE")
    masks = encode(opened.convert("L"), kind, save_all=True, append_images=[ImageOps.mirror(opened.convert("L"))])
    assert "FILE holds 2 images" in refused(decode_mask, masks, "FILE")


def test_jpeg_with_a_preview_is_one_image(colors):
    opened = Image.fromarray(colors)
    encoded = encode(opened, "MPO", save_all=True, append_images=[opened.resize((8, 4))])
    assert decode_image(encoded, "FILE").shape == (24, 40, 3)
    assert "is a JPEG" in refused(decode_mask, encoded, "FILE", True)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("part", [0, 0.1, 0.6, 0.95])
def test_truncated(colors, kind, part, capfd):
    """Nothing is read in part: the missing rows would be grey."""
    encoded = encode(Image.fromarray(colors), kind)
    encoded = encoded[: int(part * len(encoded))]
    assert "is not a readable image" in refused(decode_image, encoded, "FILE")
    if part < 0.9 and kind != "JPEG":
        assert "is not a readable mask" in refused(decode_mask, encoded, "FILE", True)
    capfd.readouterr()


def test_damaged_and_absurd_headers(colors, capfd):
    encoded = bytearray(encode(Image.fromarray(colors), "PNG"))
    encoded[18] = 255  # a width of 65320 and more
    encoded[22] = 255
    header = encoded[12:29]
    encoded[29:33] = np.array([zlib.crc32(header)], ">u4").tobytes()
    for read in (decode_image, decode_mask):
        assert "far too large" in refused(read, bytes(encoded), "FILE")
    assert "far too large" in refused(read_size, io.BytesIO(bytes(encoded)), "FILE")
    capfd.readouterr()


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "it is empty"),
        (b"\0\0\0\x20ftypisom", "it is a film, and an image is wanted"),
        (b"\0\0\0\x20ftypavif", "it is an AVIF"),
        (b"version https://git-lfs.github.com/spec/v1", "it is a pointer of Git LFS"),
        (b"<!DOCTYPE html>", "it is a page of HTML"),
        (b"some text", "it does not begin like a PNG, JPEG, TIFF or BMP"),
        (b"\x89PNG\r\n\x1a\n", "it is cut off: the chunk IEND, with which a PNG ends, is missing"),
    ],
)
def test_causes(content, cause):
    for read in (decode_image, decode_mask):
        assert cause in refused(read, content, "FILE")


def test_a_wrong_checksum(colors):
    encoded = bytearray(encode(Image.fromarray(colors), "PNG"))
    encoded[100] ^= 1
    for read in (decode_image, decode_mask):
        assert "is damaged: a checksum in it is wrong" in refused(read, bytes(encoded), "FILE")


def png(width: int, height: int, raw: bytes, bits: int = 8, kind: int = 0, *more: tuple[bytes, bytes]) -> bytes:
    head = np.array([width, height], ">u4").tobytes() + bytes([bits, kind, 0, 0, 0])
    chunks = ((b"IHDR", head), *more, (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    found = (len(body).to_bytes(4) + name + body + zlib.crc32(name + body).to_bytes(4) for name, body in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(found)


@pytest.mark.parametrize("missing", [1, 9, 10])
def test_a_stream_that_is_too_short(missing, capfd):
    """Even if it ends with a row, and all checksums are right."""
    rows = b"".join(b"\0" + bytes([row]) * 8 for row in range(8))
    assert decode_mask(png(8, 8, rows), "FILE")[7, 7] == 7
    for read in (decode_image, decode_mask):
        assert "damaged" in refused(read, png(8, 8, rows[:-missing]), "FILE")
    capfd.readouterr()


def test_unneeded_chunks_reach_no_decoder(colors):
    """Text that becomes 100 MB, and a profile that is none."""
    bomb = b"a\0\0" + zlib.compress(bytes(10**8))
    rows = b"".join(b"\0" + row.tobytes() for row in colors)
    encoded = png(40, 24, rows, 8, 2, (b"zTXt", bomb), (b"iCCP", bomb), (b"tEXt", b"x"))
    np.testing.assert_array_equal(decode_image(encoded, "FILE"), colors)
    np.testing.assert_array_equal(decode_mask(encoded, "FILE", True), colors)


def bombs():
    jpeg = bytearray(encode(Image.new("L", (8, 8)), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = (32000).to_bytes(2) * 2
    yield "JPEG", bytes(jpeg)
    jpeg[at : at + 4] = (4000).to_bytes(2) * 2
    yield "small JPEG", bytes(jpeg)
    yield "PNG", png(2**31 - 1, 2**31 - 1, b"")
    yield "PNG beyond what deflate can do", png(5000, 5000, bytes(100))
    yield "chunk of 4 GB", png(8, 8, b"").replace(b"\0\0\0\x08IDAT", b"\xff\xff\xff\xf0IDAT")
    for name, place in (("BMP", 18), ("TIFF", 18)):
        content = bytearray(encode(Image.new("L", (8, 8)), name))
        content[place : place + 4] = (2**30).to_bytes(4, "little")
        yield name, bytes(content)


@pytest.mark.parametrize("encoded", [pytest.param(content, id=name) for name, content in bombs()])
def test_absurd_sizes_are_refused_at_once(encoded):
    start = time.perf_counter()
    refused(decode_image, encoded, "FILE")
    refused(decode_mask, encoded, "FILE")
    assert time.perf_counter() - start < 1


def test_the_limit_of_pixels(colors, monkeypatch):
    encoded = encode(Image.fromarray(colors), "PNG")
    monkeypatch.setenv("OPENSEG_MAX_PIXELS", "959")
    for read in (decode_image, decode_mask):
        message = refused(read, encoded, "FILE")
        assert "far too large (more than 959 pixels of 32 bits): if that is right, set the environment" in message
        assert "OPENSEG_MAX_PIXELS to a larger number" in message
    monkeypatch.setenv("OPENSEG_MAX_PIXELS", "960")
    np.testing.assert_array_equal(decode_image(encoded, "FILE"), colors)
    monkeypatch.setenv("OPENSEG_MAX_PIXELS", "many")
    with pytest.raises(InputError, match="OPENSEG_MAX_PIXELS should be a number of pixels, found 'many'"):
        decode_image(encoded, "FILE")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_damaged_exif_is_the_same_for_image_and_size(colors, kind):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    encoded = encode(Image.fromarray(colors), kind, exif=exif)
    start = encoded.index(b"MM\0*" if kind != "TIFF" else b"II*\0") if kind != "PNG" else encoded.index(b"eXIf") + 4
    for at in range(start, min(start + 60, len(encoded))):
        damaged = bytearray(encoded)
        damaged[at] ^= 0xFF
        try:
            size = decode_image(bytes(damaged), "FILE").shape[:2]
        except InputError:
            continue
        assert read_size(io.BytesIO(bytes(damaged))) == size


def test_what_images_lose_is_said_once(colors, capsys, monkeypatch):
    monkeypatch.setattr("openseg_jax.data.images._warned", set())
    twelve_bits = encode_16_bits(colors.astype(np.uint16) * 8, ".png")
    infrared = encode(Image.fromarray(np.dstack([colors, colors[..., 0]])), "TIFF")
    opaque = encode(Image.fromarray(colors).convert("RGBA"), "PNG")
    for encoded in (twelve_bits, twelve_bits, opaque, infrared, infrared):
        decode_image(encoded, "FILE")
    deep, band = capsys.readouterr().err.splitlines()
    low, high = 8 * int(colors.min()), 8 * int(colors.max())
    assert deep.startswith(
        f"warning: FILE has 16 bits per band, of which the upper 8 are used: its values, {low} to {high}, become "
        f"{low // 256} to {high // 256}"
    )
    first = colors[..., 0]
    assert band == (
        f"warning: FILE has 4 bands, of which the last, with values from {first.min()} to {first.max()}, is not used"
    )


def test_tiffs_whose_bands_are_not_said_to_be_colors(colors):
    """Some programs call several bands shades of grey; OpenCV would read the first alone."""
    encoded = bytearray(encode(Image.fromarray(colors), "TIFF"))
    at = encoded.index(np.array([262, 3], "<u2").tobytes())
    encoded[at + 8] = 1
    np.testing.assert_array_equal(decode_image(bytes(encoded), "FILE"), colors)


def test_five_bands():
    encoded = bytearray(encode(Image.new("RGB", (8, 8)), "TIFF"))
    at = encoded.index(np.array([277, 3], "<u2").tobytes())
    encoded[at + 8] = 5
    assert "it has 5 bands, and at most 4 are read" in refused(decode_image, bytes(encoded), "FILE")


# ---------------------------------------------------------------------------------------------------------------------
# Masks


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 200, (9, 13)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_grey_masks(ids, kind):
    mask = decode_mask(encode(Image.fromarray(ids), kind), "FILE")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, ids)


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}])
def test_compressed_tiff_masks(ids, options):
    np.testing.assert_array_equal(decode_mask(encode(Image.fromarray(ids), "TIFF", **options), "FILE"), ids)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_palette_masks_are_indices_or_their_colors(ids, kind):
    palette = np.random.default_rng(2).integers(0, 256, (256, 3)).astype(np.uint8)
    opened = Image.fromarray(ids)
    opened.putpalette(palette.tobytes())
    encoded = encode(opened, kind)
    np.testing.assert_array_equal(decode_mask(encoded, "FILE"), ids)
    np.testing.assert_array_equal(decode_mask(encoded, "FILE", colors=True), palette[ids])


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palette_masks_of_few_bits(ids, bits):
    few = ids % (1 << bits)
    opened = Image.fromarray(few)
    opened.putpalette(bytes(range(1 << bits)) * 3)
    np.testing.assert_array_equal(decode_mask(encode(opened, "PNG", bits=bits), "FILE"), few)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_masks_are_0_and_1(ids, kind):
    mask = decode_mask(encode(Image.fromarray(ids > 100), kind), "FILE")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, ids > 100)


def test_transparency_of_a_palette_changes_nothing(ids):
    opened = Image.fromarray(ids)
    opened.putpalette(bytes(range(256)) * 3)
    np.testing.assert_array_equal(decode_mask(encode(opened, "PNG", transparency=0), "FILE"), ids)


def test_one_pixel_mask():
    np.testing.assert_array_equal(decode_mask(encode(Image.new("L", (1, 1), 7), "PNG"), "FILE"), [[7]])


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_color_masks(colors, mode):
    encoded = encode(Image.fromarray(colors).convert(mode), "PNG")
    np.testing.assert_array_equal(decode_mask(encoded, "FILE", colors=True), colors)
    assert f"is an image of mode {mode}, not a mask of class ids" in refused(decode_mask, encoded, "FILE")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_masks_are_refused(ids, suffix):
    encoded = encode_16_bits(ids.astype(np.uint16), suffix)
    assert "is an image of mode I;16" in refused(decode_mask, encoded, "FILE")
    assert "is an image of mode I;16" in refused(decode_mask, encoded, "FILE", True)


@pytest.mark.parametrize("mode", ["LA", "F", "CMYK"])
@pytest.mark.parametrize("colors", [False, True])
def test_other_masks_are_refused(ids, mode, colors):
    encoded = encode(Image.fromarray(ids).convert(mode), "TIFF")
    assert f"is an image of mode {mode}" in refused(decode_mask, encoded, "FILE", colors)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("colors", [False, True])
def test_jpeg_masks_are_refused_whatever_their_name(ids, mode, colors):
    encoded = encode(Image.fromarray(ids).convert(mode), "JPEG")
    assert "is a JPEG, whose compression invents class ids" in refused(decode_mask, encoded, "FILE", colors)


def test_grey_is_no_color_mask(ids):
    encoded = encode(Image.fromarray(ids), "PNG")
    assert "the class table says that masks are RGB images of colours" in refused(decode_mask, encoded, "FILE", True)


def test_jpegs_in_tiffs_are_no_masks(colors):
    encoded = encode(Image.fromarray(colors), "TIFF", compression="jpeg")
    assert "is a JPEG, whose compression invents class ids" in refused(decode_mask, encoded, "FILE", True)


def test_an_index_beyond_the_palette():
    encoded = png(2, 1, b"\0\1\2", 8, 3, (b"PLTE", bytes(6)))
    np.testing.assert_array_equal(decode_mask(encoded, "FILE"), [[1, 2]])
    assert "has the index 2, but its palette has 2 colours only" in refused(decode_mask, encoded, "FILE", True)


@pytest.mark.parametrize("value", [np.inf, np.nan, -1, 256])
@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_masks_of_any_numbers(value, kind):
    if kind is np.int32 and not np.isfinite(value):
        return
    encoded = encode(Image.fromarray(np.full((4, 5), value, kind)), "TIFF")
    for colors in (False, True):
        assert "is an image of mode" in refused(decode_mask, encoded, "FILE", colors)
    assert "it has values that are negative" in refused(decode_image, encoded, "FILE")
