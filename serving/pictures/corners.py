"""The corners of a mask's outline, and which of them a straight edge joins.

    found = find_corners(mask, 255, most=1_000_000)
    found.x, found.y                                    # in the order of reading: row by row, left to right
    i ^ 1, found.down[i]                                # the other ends of the two edges that meet in corner i

Coordinates are those of pixels' edges: pixel (column x, row y) covers x to x + 1 and y to y + 1. So an outline is
made of level and upright edges in turn, and in each row and each column of corners the first is joined with the second,
the third with the fourth, and so on. Where two pixels of the mask touch with their corners alone there
are two corners, one of each pixel: they belong to different pieces unless these are joined elsewhere.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serving.errors import NotAcceptableError

_STRIP_PIXELS: Final = 1 << 20
# The four pixels around a point: which are of the mask, as bits.
_ABOVE_LEFT, _ABOVE_RIGHT, _BELOW_LEFT, BELOW_RIGHT = 1, 2, 4, 8
_RISING: Final = _ABOVE_RIGHT | _BELOW_LEFT
_FALLING: Final = _ABOVE_LEFT | BELOW_RIGHT
_BENDS: Final = np.array([code.bit_count() % 2 == 1 or code in (_RISING, _FALLING) for code in range(16)])


@dataclass(frozen=True)
class Corners:
    """The corners of one class's outline, n in all, 14 bytes each.

    Attributes:
        x, y: (n,) int16, in pixels.
        around: (n,) uint8, the four pixels around; `BELOW_RIGHT` is the bit of one of them.
        twin: (n,) int8, how far on the other corner at the same point is: 0 (none), 1 or -1.
        column: (n,) int32, all corners column by column, each from the top down; every two of them are joined.
        down: (n,) int32, of each corner the one that an upright edge joins it with.
    """

    x: NDArray[np.int16]
    y: NDArray[np.int16]
    around: NDArray[np.uint8]
    twin: NDArray[np.int8]
    column: NDArray[np.int32]
    down: NDArray[np.int32]


def find_corners(mask: NDArray[np.uint8], value: int, most: int) -> Corners:
    """Find the corners of the outline of those pixels that have a value.

    Args:
        mask: (H, W) uint8, sides of up to 32,766 pixels.
        value: 255 for the foreground of a binary version, else a class index.
        most: more corners than these are refused.

    Raises:
        NotAcceptableError: there are more.
    """
    height, width = mask.shape
    xs, ys, codes, left = [], [], [], most
    rows = max(1, _STRIP_PIXELS // (width + 1))
    for top in range(0, height + 1, rows):
        code = _around(mask, value, top, min(height + 1, top + rows))
        bends = _BENDS[code]
        left -= int(np.count_nonzero(bends))
        if left < 0:
            raise NotAcceptableError(
                f"the mask's outline has more than {most:,} corners, too many to list: ask for format=rle or "
                "format=coco, or for the mask as image/png"
            )
        y, x = np.nonzero(bends)
        xs.append(x.astype(np.int16))
        ys.append((y + top).astype(np.int16))
        codes.append(code[bends])
    return _joined(np.concatenate(xs), np.concatenate(ys), np.concatenate(codes))


def _around(mask: NDArray[np.uint8], value: int, top: int, bottom: int) -> NDArray[np.uint8]:
    """(rows, W + 1) uint8: the four pixels around each point of some rows."""
    height, width = mask.shape
    inside = np.zeros((bottom - top + 1, width + 2), np.uint8)
    first, last = max(0, top - 1), min(height, bottom)
    inside[first - top + 1 : last - top + 1, 1:-1] = mask[first:last] == value
    above, below = inside[:-1], inside[1:]
    code = np.zeros((bottom - top, width + 1), np.uint8)
    for bit, quarter in (
        (_ABOVE_LEFT, above[:, :-1]),
        (_ABOVE_RIGHT, above[:, 1:]),
        (_BELOW_LEFT, below[:, :-1]),
        (BELOW_RIGHT, below[:, 1:]),
    ):
        code += quarter * np.uint8(bit)
    return code


def _joined(x: NDArray[np.int16], y: NDArray[np.int16], around: NDArray[np.uint8]) -> Corners:
    crossing = (around == _RISING) | (around == _FALLING)
    copies = crossing.astype(np.uint8) + 1
    x, y, around = np.repeat(x, copies), np.repeat(y, copies), np.repeat(around, copies)
    twin = np.zeros(x.size, np.int8)
    first = np.flatnonzero(np.repeat(crossing, copies))[::2]
    twin[first], twin[first + 1] = 1, -1
    # Of two corners at a point the first ends the level edge from the left and belongs to the pixel there. Whether that
    # pixel's upright edge goes up or down says which of the two comes first in the column.
    later = (twin == 1) & (around == _RISING) | (twin == -1) & (around == _FALLING)
    key = (x.astype(np.int64) << 16 | y) << 1 | later
    column = np.argsort(key, kind="stable").astype(np.int32)
    down = np.empty_like(column)
    down[column[::2]], down[column[1::2]] = column[1::2], column[::2]
    return Corners(x, y, around, twin, column, down)
