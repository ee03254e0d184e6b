"""One rule brings every accepted file to 8-bit RGB; everything else is refused with a short reason."""

import os
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from image_files import ALPHA, GREY, HEIGHT, RGB, WIDE, WIDTH, chunk, grey_rgb, png, saved, tiff
from PIL import Image, ImageOps

from resunet import images
from resunet.errors import ImageError
from resunet.images import (
    decode_image,
    decode_image_and_orientation,
    decode_mask,
    decode_mask_and_orientation,
    is_16_bit_grey,
    read_image,
    read_mask,
)

NUCLEI = Path(__file__).resolve().parents[2].parent / "shared/data/nuclei"


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


@pytest.mark.parametrize(
    ("data", "is_wide"),
    [
        (saved(Image.fromarray(WIDE)), True),
        (tiff(WIDE, ">"), True),
        (tiff(WIDE, photometric=0), False),
        (tiff(bytes(36 * HEIGHT), bits=12, width=24), False),
        (saved(Image.fromarray(GREY)), False),
        (saved(Image.fromarray(RGB)), False),
    ],
    ids=["png", "tiff big-endian", "white is zero", "12 bits stated", "8-bit grey", "colour"],
)
def test_16_bit_grey_is_told_by_the_header(data: bytes, is_wide: bool) -> None:
    assert is_16_bit_grey(data) == is_wide


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


def test_threads_decode_the_same_pixels() -> None:
    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(decode_image, [saved(Image.fromarray(RGB))] * 32)
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
        "import sys; sys.path.insert(0, 'tests/code'); from peak_memory import peak_bytes\n"
        "from pathlib import Path; from resunet.images import read_image\n"
        "before = peak_bytes(); pixels = read_image(Path(sys.argv[1]))\n"
        "assert pixels.shape == (10_000, 10_000, 3) and pixels[-1, -1, 2] == 249\n"
        "print(peak_bytes() - before)"
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
