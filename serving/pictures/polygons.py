"""The outlines of a mask as polygons that describe its pixels exactly.

    for polygon in polygons(mask, 255):
        polygon.rings[0], polygon.rings[1:], polygon.area   # outline, holes, pixels

Why not `cv2.findContours`: it goes through the middles of a piece's outermost pixels, so that a piece of one pixel is a
point, one of a row a line, each area is too small, and programs that want polygons refuse them. Here they run along the
edges of pixels, in the coordinates of COCO, SVG, canvas and viewers of GeoJSON: (0, 0) is the corner of the image's
first pixel, x to the right, y down, and a pixel covers one square. A polygon's area is its piece's number of pixels,
and filling it gives the piece.

A piece is what hangs together by the sides of pixels: what touches by corners alone is two polygons. No ring meets
itself; rings may meet in a point. Outlines run clockwise as seen on the screen, holes the other way.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serving.pictures.corners import BELOW_RIGHT, Corners, find_corners

# At most 60 bytes each while they are traced: 300 MB. 100,000 nuclei of 20 pixels across have some 4 million.
MOST_CORNERS: Final = 5_000_000


@dataclass(frozen=True)
class Polygon:
    """One piece of a mask.

    Attributes:
        rings: (n, 2) int16 each, corners (x, y), not closed: the outline, then its holes.
        area: pixels.
        box: left, top, width and height, pixels.
    """

    rings: list[NDArray[np.int16]]
    area: int
    box: tuple[int, int, int, int]


def polygons(mask: NDArray[np.uint8], value: int, most: int = MOST_CORNERS) -> Iterator[Polygon]:
    """The pieces of a mask, in the order in which reading row by row meets them.

    Args:
        mask: (H, W) uint8.
        value: 255 for the foreground of a binary version, else a class index.
        most: corners of all outlines together.

    Raises:
        NotAcceptableError: there are more corners.
    """
    corners = find_corners(mask, value, most)
    traced = _trace(corners)
    piece = _pieces(mask, value, corners, traced)
    at = np.stack([corners.x[traced.corners], corners.y[traced.corners]], axis=1)
    del corners
    if not at.size:
        return
    begins, ends = traced.begins, traced.ends
    areas, first, last = _areas(at, traced), np.minimum.reduceat(at, begins), np.maximum.reduceat(at, begins)
    # Each piece's outline before its holes, otherwise as they were found.
    order = np.lexsort((traced.hole, piece))
    breaks = np.flatnonzero(np.diff(piece[order], prepend=-1, append=-1)).tolist()
    for begin, end in pairwise(breaks):
        outline, *holes = order[begin:end].tolist()
        rings = [_turned(at[begins[outline] : ends[outline]], areas[outline] > 0)]
        rings += [_turned(at[begins[hole] : ends[hole]], areas[hole] < 0) for hole in holes]
        area = abs(int(areas[outline])) - sum(abs(int(areas[hole])) for hole in holes)
        left, top = first[outline].tolist()
        right, bottom = last[outline].tolist()
        yield Polygon(rings, area, (left, top, right - left, bottom - top))


def _turned(ring: NDArray[np.int16], right: bool) -> NDArray[np.int16]:
    return ring if right else ring[::-1]


@dataclass(frozen=True)
class _Traced:
    """Rings one after the other.

    Attributes:
        corners: (n,) int32, ring by ring.
        ends: (rings,) int32, where in them each ring ends.
        hole: (rings,) uint8, 1 for a hole.
        walk: (rings,) int32, in which walk it was found: rings of one are of one piece.
    """

    corners: NDArray[np.int32]
    ends: NDArray[np.int32]
    hole: NDArray[np.uint8]
    walk: NDArray[np.int32]

    @property
    def begins(self) -> NDArray[np.int32]:
        return np.concatenate([[0], self.ends[:-1]]).astype(np.int32)


def _trace(found: Corners) -> _Traced:
    """Walk along the edges from each corner that was not visited, level and upright in turn.

    A walk that comes to a point again has closed a ring there, which is set apart. What is left in the end begins with
    the first corner in the order of reading, where the piece lies below (an outline) or the hole does.
    """
    down, twin, around = found.down.data, found.twin.data, found.around.data
    seen = bytearray(len(down) // 2)  # an edge of two corners, 2 k and 2 k + 1, each
    corners, ends, hole, walk = array("i"), array("i"), array("B"), array("i")
    for start in range(0, len(down), 2):
        if seen[start >> 1]:
            continue
        outline = bool(around[start] & BELOW_RIGHT)
        path, at = array("i"), start
        places: dict[int, int] = {}
        while True:
            for corner in (at, at ^ 1):
                if twin[corner]:
                    place = places.get(corner + twin[corner])
                    if place is not None:
                        corners.extend(path[place:])
                        ends.append(len(corners))
                        hole.append(1)
                        walk.append(start)
                        del path[place:]
                    places[corner] = len(path)
                path.append(corner)
            seen[at >> 1] = 1
            at = down[at ^ 1]
            if at == start:
                break
        corners.extend(path)
        ends.append(len(corners))
        hole.append(not outline)
        walk.append(start)
    return _Traced(
        np.asarray(corners, np.int32),
        np.asarray(ends, np.int32),
        np.asarray(hole, np.uint8),
        np.asarray(walk, np.int32),
    )


def _pieces(mask: NDArray[np.uint8], value: int, found: Corners, traced: _Traced) -> NDArray[np.int32]:
    """Of each ring the piece it belongs to, named by the first corner of the piece's outline.

    A hole's piece lies just above the hole's first corner. The run of pixels there begins at an upright edge, which is
    of the piece's outline, or of a hole of it that reading met before.
    """
    walks, which = np.unique(traced.walk, return_inverse=True)
    owners = walks.copy()
    inner = np.flatnonzero((found.around[walks] & BELOW_RIGHT) == 0)
    if not inner.size:
        return traced.walk
    walk_of = np.empty(found.x.size, np.int32)
    walk_of[traced.corners] = np.repeat(which, traced.ends - traced.begins)
    tops = found.column[::2]
    keys = found.x[tops].astype(np.int64) << 16 | found.y[tops]
    row, inside = -1, b""
    for number in inner.tolist():  # in the order of reading
        x, y = int(found.x[walks[number]]), int(found.y[walks[number]]) - 1
        if y != row:
            row, inside = y, (mask[y] == value).tobytes()
        left = inside.rfind(b"\0", 0, x) + 1
        edge = tops[np.searchsorted(keys, left << 16 | y, "right") - 1]
        owners[number] = owners[walk_of[edge]]
    return owners[which]


def _areas(at: NDArray[np.int16], traced: _Traced) -> NDArray[np.int64]:
    """Area of each ring, the sum of x dy along it (Green's theorem): above 0 where it runs clockwise on the screen."""
    x, y = at[:, 0], at[:, 1]
    ahead = np.roll(y, -1)
    ahead[traced.ends - 1] = y[traced.begins]
    return np.asarray(np.add.reduceat(x * (ahead - y).astype(np.int64), traced.begins))
