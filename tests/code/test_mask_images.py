"""A mask file keeps its class indices, whatever kind it is."""

import numpy as np
import pytest
from image_files import ALPHA, GREY, RGB, WIDE, grey_rgb, png, saved, tiff
from PIL import Image

from resunet.errors import ImageError
from resunet.images import (
    decode_mask,
)


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
