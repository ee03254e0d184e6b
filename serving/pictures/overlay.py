"""A mask over its image: tinted, and outlined in a colour that colour-blind readers can tell from the others.

    pieces = encode_overlay(rgb, mask, binary=True)

The colours are `resunet.palette.CLASS_COLOURS`, the first foreground class first; after seven they begin anew. The
outline's coloured line lies inside the mask; a dark line around it sets it off from grounds of its own colour. Where
the image ends there is none.
"""

from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from resunet.palette import CLASS_COLOURS, levels
from serving.pictures.png import encode_strips

TINT: Final = 0.4
SHADE: Final = 0.55
# Beside the image and its mask, drawing takes some 20 bytes for each of so many pixels, whatever the image's size.
_STRIP_PIXELS: Final = 1 << 20
# Longest sides from which on lines are 2 and 3 pixels wide: such images are looked at from farther away.
_WIDER_FROM: Final = (1024, 4096)


def encode_overlay(rgb: NDArray[np.uint8], mask: NDArray[np.uint8], *, binary: bool) -> Iterator[bytes]:
    """Draw a mask over its image and encode it as PNG.

    Args:
        rgb: (H, W, 3) uint8.
        mask: (H, W) uint8, 0 and 255 if `binary`, else class indices; 0 is the background.

    Returns:
        The file in pieces.
    """
    height, width = mask.shape
    return encode_strips(draw_overlay(rgb, mask, binary=binary), width, height)


def draw_overlay(rgb: NDArray[np.uint8], mask: NDArray[np.uint8], *, binary: bool) -> Iterator[NDArray[np.uint8]]:
    """`encode_overlay` before it is encoded: strips (rows, W, 3) uint8 from the top down."""
    height, width = mask.shape
    line = line_width(height, width)
    table = _colours(binary)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * line + 1, 2 * line + 1))
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        first = max(0, top - line)
        around = mask[first : bottom + line]
        inner = slice(top - first, bottom - first)
        # What is not the same everywhere below the kernel has a border there; both ignore what is outside the image.
        border = (cv2.erode(around, kernel) != cv2.dilate(around, kernel))[inner]
        yield _blend(rgb[top:bottom], mask[top:bottom], border, table)


def line_width(height: int, width: int) -> int:
    """Width of the coloured line and of the dark one, pixels: 1 to 3 by the image's longer side."""
    return 1 + sum(max(height, width) >= side for side in _WIDER_FROM)


def _blend(
    rgb: NDArray[np.uint8], mask: NDArray[np.uint8], border: NDArray[np.bool_], table: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    colours = table[mask]
    inside = mask > 0
    out = np.where(inside[..., None], cv2.addWeighted(rgb, 1 - TINT, colours, TINT, 0), rgb)
    np.copyto(out, colours, where=(border & inside)[..., None])
    np.copyto(out, cv2.convertScaleAbs(rgb, alpha=1 - SHADE), where=(border & ~inside)[..., None])
    return np.asarray(out, np.uint8)


def _colours(binary: bool) -> NDArray[np.uint8]:
    """(256, 3) uint8: the colour of each value of a mask."""
    table = np.zeros((256, 3), np.uint8)
    for value in range(1, 256):
        table[value] = levels(CLASS_COLOURS[0 if binary else (value - 1) % len(CLASS_COLOURS)])
    return table
