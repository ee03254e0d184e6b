"""What is no acceptable image is refused with a short reason, before it costs anything."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import ALPHA, GREY, RGB, WIDE, png, saved, tiff
from PIL import Image, ImageFile

from resunet import images
from resunet.errors import ImageError
from resunet.images import (
    decode_image,
    decode_mask,
)


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
