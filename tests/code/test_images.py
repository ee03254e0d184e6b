"""One rule brings every accepted file to 8-bit RGB; everything else is refused with a short reason."""

import os
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from resunet import images
from resunet.errors import ImageError
from resunet.images import (
    decode_image,
    decode_image_and_orientation,
    decode_mask,
    decode_mask_and_orientation,
    read_image,
    read_mask,
)

NUCLEI = Path(__file__).resolve().parents[2].parent / "shared/data/nuclei"
HEIGHT, WIDTH = 19, 23
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = RGB[..., 0]
WIDE = (GREY.astype(np.uint16) << 8) | RGB[..., 1]
ALPHA = RGB[..., 2]


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(pixels: np.ndarray | bytes, order: str = "<", **changed: int | tuple[int, ...]) -> bytes:
    """A TIFF of one strip, written by hand: Pillow cannot write every kind that it reads."""
    data = pixels if isinstance(pixels, bytes) else pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    bits = 8 if isinstance(pixels, bytes) else pixels.dtype.itemsize * 8
    names = {"width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262, "offset": 273}
    names |= {"samples": 277, "rows": 278, "length": 279, "tile_width": 322, "tile_length": 323, "kind": 339}
    values: dict[str, Any] = {"width": WIDTH, "height": HEIGHT, "bits": bits, "compression": 1}
    values |= {"photometric": 1, "offset": 8, "samples": 1, "rows": HEIGHT, "length": len(data)} | changed
    entries = b"".join(
        struct.pack(order + "HHII", names[name], 4, 1, values[name]) for name in sorted(values, key=names.__getitem__)
    )
    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(data))
    return head + data + struct.pack(order + "H", len(values)) + entries + bytes(4)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + head + body + extra + chunk(b"IEND", b"")


def grey_rgb(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_lossless_colour_is_kept_exactly(kind: str) -> None:
    pixels = decode_image(saved(Image.fromarray(RGB), kind))
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and pixels.flags.writeable
    np.testing.assert_array_equal(pixels, RGB)


def test_jpeg_decodes_as_pillow_does() -> None:
    data = saved(Image.fromarray(RGB), "JPEG", quality=90)
    np.testing.assert_array_equal(decode_image(data), np.asarray(Image.open(BytesIO(data))))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
def test_grey_fills_three_channels(kind: str) -> None:
    flat = np.full((HEIGHT, WIDTH), 77, np.uint8)
    np.testing.assert_array_equal(decode_image(saved(Image.fromarray(flat), kind)), grey_rgb(flat))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_becomes_0_and_255_in_an_image_and_0_and_1_in_a_mask(kind: str) -> None:
    data = saved(Image.fromarray(GREY > 100), kind)
    np.testing.assert_array_equal(decode_image(data), grey_rgb(np.where(GREY > 100, 255, 0)))
    np.testing.assert_array_equal(decode_mask(data), GREY > 100)


@pytest.mark.parametrize(
    "data",
    [saved(Image.fromarray(WIDE)), saved(Image.fromarray(WIDE), "TIFF"), tiff(WIDE), tiff(WIDE, ">")],
    ids=["png", "tiff", "tiff little-endian", "tiff big-endian"],
)
def test_16_bit_grey_keeps_its_upper_8_bits_whatever_the_image_holds(data: bytes) -> None:
    np.testing.assert_array_equal(decode_image(data), grey_rgb(GREY))


def test_a_dark_16_bit_image_stays_dark() -> None:
    dark = np.full((HEIGHT, WIDTH), 300, np.uint16)
    dark[0, 0] = 700
    assert decode_image(tiff(dark)).max() == 2


def test_16_bit_white_is_zero_is_inverted_like_8_bit() -> None:
    wide, narrow = decode_image(tiff(WIDE, photometric=0)), decode_image(tiff(GREY, photometric=0))
    np.testing.assert_array_equal(wide, narrow)
    np.testing.assert_array_equal(narrow, grey_rgb(255 - GREY))


def test_12_bit_tiff_keeps_the_upper_8_of_its_12_bits() -> None:
    # Two pixels of 0xABC and 0x123 in three bytes; a row of 24 pixels has 36.
    data = tiff(bytes([0xAB, 0xC1, 0x23]) * 12 * HEIGHT, bits=12, width=24)
    np.testing.assert_array_equal(decode_image(data)[0, :2, 0], [0xAB, 0x12])


def test_16_bit_colour_keeps_its_upper_8_bits() -> None:
    wide = (RGB.astype(">u2") << 8) | 0x5A
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    np.testing.assert_array_equal(decode_image(png(WIDTH, HEIGHT, 16, 2, rows)), RGB)


def test_transparency_is_composited_on_black() -> None:
    data = saved(Image.fromarray(np.dstack([RGB, ALPHA])))
    expected = np.rint(RGB.astype(float) * ALPHA[..., None] / 255)
    assert np.abs(decode_image(data) - expected).max() <= 0.5
    np.testing.assert_array_equal(decode_image(saved(Image.fromarray(np.dstack([RGB, ALPHA * 0])))), RGB * 0)
    opaque = np.dstack([RGB, np.full_like(ALPHA, 255)])
    np.testing.assert_array_equal(decode_image(saved(Image.fromarray(opaque), "TIFF")), RGB)


def test_grey_with_alpha_is_composited_on_black() -> None:
    image = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
    expected = np.rint(GREY.astype(float) * ALPHA / 255)
    np.testing.assert_array_equal(decode_image(saved(image)), grey_rgb(expected.astype(np.uint8)))


def test_palette_is_expanded_and_its_transparent_entry_is_black() -> None:
    indices = (GREY // 64).astype(np.uint8)
    image = Image.fromarray(indices, "P")
    colours = np.array([[10, 20, 30], [200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
    image.putpalette(colours.ravel().tolist())
    np.testing.assert_array_equal(decode_image(saved(image)), colours[indices])
    colours[1] = 0
    np.testing.assert_array_equal(decode_image(saved(image, transparency=1)), colours[indices])


def test_a_transparent_colour_is_black() -> None:
    marked = RGB.copy()
    marked[3, 4] = (9, 8, 7)
    out = decode_image(saved(Image.fromarray(marked), transparency=(9, 8, 7)))
    assert out[3, 4].tolist() == [0, 0, 0] and out[0, 0].tolist() == RGB[0, 0].tolist()
    assert decode_image(saved(Image.fromarray(WIDE), transparency=int(WIDE[2, 2])))[2, 2].tolist() == [
        0,
        0,
        0,
    ]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted(kind: str) -> None:
    image = Image.new("CMYK", (WIDTH, HEIGHT), (0, 255, 255, 0))
    red = decode_image(saved(image, kind))[5, 5]
    assert red[0] > 250 and red[1:].max() < 5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_orientation_is_applied_to_images_and_masks_alike(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    colour, grey = (saved(Image.fromarray(a), kind, exif=exif) for a in (RGB, GREY))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(colour))))
    assert upright.shape[:2] == ((HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT))
    np.testing.assert_array_equal(decode_image(colour), upright)
    np.testing.assert_array_equal(decode_mask(grey), upright[..., 0])


@pytest.mark.parametrize("orientation", [*range(1, 9), 9])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_the_orientation_that_was_undone_is_told(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = saved(Image.fromarray(RGB), kind, exif=exif)
    assert decode_image_and_orientation(image)[1] == (orientation if orientation < 9 else 1)
    assert decode_mask_and_orientation(saved(Image.fromarray(GREY), "PNG"))[1] == 1


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "metadata",
    [chunk(b"eXIf", b"II*\0\xff\xff\xff\x7f"), chunk(b"tEXt", b"Raw profile type exif\0\n\n\nnot hexadecimal")],
    ids=["out of bounds", "not hexadecimal"],
)
def test_unreadable_exif_does_not_refuse_good_pixels(metadata: bytes) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in RGB)
    np.testing.assert_array_equal(decode_image(png(WIDTH, HEIGHT, 8, 2, rows, metadata)), RGB)


def test_a_text_that_unpacks_to_much_is_refused() -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in RGB)
    text = chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(50_000_000)))
    with pytest.raises(ImageError, match="damaged"):
        decode_image(png(WIDTH, HEIGHT, 8, 2, rows, text))


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_the_first_of_many_frames_is_taken(kind: str) -> None:
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode_image(data), RGB)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"not an image", "not an image of an accepted format"),
        (saved(Image.fromarray(RGB), "GIF"), "not an image of an accepted format"),
        (saved(Image.fromarray(RGB), "WEBP"), "not an image of an accepted format"),
        (saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "floating-point"),
        (saved(Image.fromarray(GREY.astype(np.int32)), "TIFF"), "32-bit or signed"),
        (tiff(WIDE, kind=2), "32-bit or signed"),
        (saved(Image.new("LAB", (32, 32)), "TIFF"), "Lab"),
        (saved(Image.new("RGB", (15, 40))), "15 x 40, each side needs 16"),
        (saved(Image.new("1", (10_001, 16))), "10001 x 16, at most 10000 x 10000"),
        (tiff(GREY.astype(np.float64), kind=3), "not supported"),
    ],
)
def test_what_is_refused_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode_image(data)


def test_what_is_not_bytes_is_refused() -> None:
    with pytest.raises(ImageError, match="not bytes"):
        decode_image(None)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [11_000, 60_000, 2**31 - 1])
@pytest.mark.parametrize("decode", [decode_image, decode_mask])
def test_a_header_that_claims_too_much_is_refused_before_decoding(decode: Any, side: int) -> None:
    bombs = [png(side, side, 8, 0, bytes(1000)), tiff(GREY, width=side, height=side, rows=side)]
    bombs.append(tiff(GREY, tile_width=side, tile_length=side))
    for bomb in bombs:
        with pytest.raises(ImageError, match="too large"):
            decode(bomb)


@pytest.mark.parametrize(("width", "height"), [(16, 16), (16, 10_000), (10_000, 16)])
def test_the_smallest_and_longest_sides_are_accepted(width: int, height: int) -> None:
    assert decode_image(saved(Image.new("L", (width, height), 3))).shape == (height, width, 3)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_every_truncation_is_refused(kind: str) -> None:
    # 24 pixels: a BMP row is padded to 4 bytes, and missing padding is no missing pixel.
    data = saved(Image.fromarray(np.hstack([RGB, RGB[:, :1]])), kind)
    for length in range(len(data)):
        with pytest.raises(ImageError):
            decode_image(data[:length])


def test_importing_sets_the_limits_on_purpose_and_no_tolerance_for_truncation() -> None:
    assert Image.MAX_IMAGE_PIXELS == images.MAX_PIXELS == 100_000_000
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


_SEEDS = [
    *(saved(Image.fromarray(RGB), kind) for kind in ("PNG", "JPEG", "TIFF", "BMP")),
    saved(Image.fromarray(RGB), "TIFF", compression="tiff_lzw"),
    saved(Image.fromarray(GREY).convert("P")),
    saved(Image.fromarray(WIDE), "TIFF"),
    saved(Image.fromarray(np.dstack([RGB, ALPHA])), exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    seed=st.sampled_from(_SEEDS),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6), st.integers(0, 6)), min_size=1, max_size=6),
    header=st.booleans(),
)
def test_mutated_files_give_pixels_or_an_image_error(
    seed: bytes, edits: list[tuple[float, bytes, int]], header: bool
) -> None:
    data = bytearray(seed)
    for where, new, removed in edits:
        start = 4 + int(where * ((min(len(data), 200) if header else len(data)) - 4))
        data[start : start + removed] = new
    for decode in (decode_image, decode_mask):
        try:
            pixels = decode(bytes(data))
        except ImageError as error:
            assert len(str(error)) < 200 and "\\x" not in str(error)
        else:
            assert pixels.dtype == np.uint8 and min(pixels.shape[:2]) >= images.MIN_SIDE


def test_threads_decode_the_same_pixels() -> None:
    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(decode_image, [_SEEDS[0]] * 32)
    assert all(np.array_equal(first, other) for other in others)


def test_the_largest_image_is_decoded_and_turned_within_three_copies_of_its_pixels(tmp_path: Path) -> None:
    side = images.MAX_SIDE
    packer = zlib.compressobj(1)
    row = b"\0" + bytes(range(250)) * (side * 3 // 250)
    body = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = png(side, side, 8, 2, b"", chunk(b"eXIf", exif.tobytes()[6:]))
    start, end = plain.index(b"IDAT") - 4, plain.index(b"eXIf") - 4
    path = tmp_path / "large.png"
    path.write_bytes(plain[:start] + chunk(b"IDAT", body) + plain[end:])
    code = (
        "import resource, sys; from pathlib import Path; from resunet.images import read_image\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); pixels = read_image(Path(sys.argv[1]))\n"
        "assert pixels.shape == (10_000, 10_000, 3) and pixels[-1, -1, 2] == 249\n"
        "print((peak() - before) * 1024)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert int(done.stdout) < 3 * side * side * 3


# Masks.


@pytest.mark.parametrize(
    "data",
    [
        saved(Image.fromarray(GREY)),
        saved(Image.fromarray(GREY), "TIFF"),
        saved(Image.fromarray(GREY), "BMP"),
        saved(Image.fromarray(GREY.astype(np.uint16))),
        saved(Image.fromarray(GREY.astype(np.uint16)), "TIFF"),
        saved(Image.fromarray(grey_rgb(GREY))),
        saved(Image.fromarray(np.dstack([grey_rgb(GREY), np.full_like(GREY, 255)]))),
    ],
    ids=["png", "tiff", "bmp", "16-bit png", "16-bit tiff", "grey as RGB", "opaque RGBA"],
)
def test_a_mask_keeps_its_values(data: bytes) -> None:
    mask = decode_mask(data)
    assert mask.flags.c_contiguous and mask.flags.writeable
    np.testing.assert_array_equal(mask, GREY)


def test_a_palette_mask_gives_indices_not_colours() -> None:
    indices = (GREY // 64).astype(np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette([0, 0, 0, 255, 255, 255, 255, 255, 255, 9, 9, 9])
    for options in ({}, {"transparency": 0}):
        np.testing.assert_array_equal(decode_mask(saved(image, **options)), indices)


@pytest.mark.parametrize("bits", [2, 4])
def test_2_and_4_bit_grey_masks_are_not_stretched(bits: int) -> None:
    values = (np.arange(16 * 16) % 2**bits).astype(np.uint8).reshape(16, 16)
    unpacked = ((values[..., None] >> np.arange(bits - 1, -1, -1)) & 1).reshape(16, -1)
    packed = np.packbits(unpacked, axis=1)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    np.testing.assert_array_equal(decode_mask(png(16, 16, bits, 0, rows)), values)
    data = tiff(packed.tobytes(), bits=bits, width=16, height=16, rows=16)
    np.testing.assert_array_equal(decode_mask(data), values)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (saved(Image.fromarray(GREY), "JPEG"), "does not keep class indices"),
        (saved(Image.fromarray(RGB)), "colours"),
        (saved(Image.fromarray(np.dstack([grey_rgb(GREY), ALPHA]))), "transparency"),
        (saved(Image.fromarray(WIDE)), "above 255"),
    ],
)
def test_what_is_no_mask_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode_mask(data)


def test_reading_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no")
    with pytest.raises(ImageError, match=r"^broken\.png: the file is not an image"):
        read_image(tmp_path / "broken.png")
    with pytest.raises(ImageError, match=r"^missing\.png: the file cannot be read"):
        read_mask(tmp_path / "missing.png")


@pytest.mark.nuclei
def test_real_images_and_masks_are_read() -> None:
    if not NUCLEI.is_dir():
        if os.environ.get("RESUNET_REQUIRE_NUCLEI"):
            pytest.fail("the nuclei data set is missing")
        pytest.skip("the nuclei data set is not beside the checkout")
    for path in sorted((NUCLEI / "images").iterdir())[:20]:
        assert read_image(path).shape[:2] == read_mask(NUCLEI / "masks" / path.name).shape
