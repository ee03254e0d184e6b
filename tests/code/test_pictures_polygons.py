"""Polygons of a mask: drawn back they are the mask, pixel by pixel."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco_masks
from scipy import ndimage

from serving.errors import NotAcceptableError, status_of
from serving.pictures import corners
from serving.pictures.polygons import Polygon, polygons

MASKS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.sampled_from([0, 255]))
NOISE = np.random.default_rng(0).random((120, 130))


def filled(ring: NDArray[np.int16], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels inside a ring: those with an odd number of its upright edges to their left."""
    crossed = np.zeros((shape[0], shape[1] + 1), np.int64)
    for (x, y), (to_x, to_y) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
        assert (x == to_x) != (y == to_y), "every edge is level or upright, and has a length"
        if x == to_x:
            crossed[min(y, to_y) : max(y, to_y), x] += 1
    return np.cumsum(crossed, axis=1)[:, :-1] % 2 == 1


def turn(ring: NDArray[np.int16]) -> int:
    """Area, above 0 for a ring that runs clockwise on the screen."""
    x, y = ring.astype(np.int64).T
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) // 2


def drawn(polygon: Polygon, shape: tuple[int, int]) -> NDArray[np.bool_]:
    outline, *holes = polygon.rings
    piece = filled(outline, shape)
    for hole in holes:
        gap = filled(hole, shape)
        assert not (gap & ~piece).any(), "a hole lies in its outline, and in no other hole"
        piece &= ~gap
    return piece


def check(mask: NDArray[np.uint8], value: int = 255) -> list[Polygon]:
    labels, pieces = ndimage.label(mask == value)  # by the sides of pixels
    found = list(polygons(mask, value))
    assert len(found) == pieces
    firsts = []
    for polygon in found:
        piece = drawn(polygon, mask.shape)
        y, x = np.nonzero(piece)
        np.testing.assert_array_equal(piece, labels == labels[y[0], x[0]])
        assert polygon.area == piece.sum()
        assert polygon.box == (x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1)
        assert [turn(ring) > 0 for ring in polygon.rings] == [True] + [False] * (len(polygon.rings) - 1)
        for ring in polygon.rings:
            assert len({(x, y) for x, y in ring.tolist()}) == len(ring), "a ring comes to no point twice"
            steps = np.roll(ring, -1, axis=0) - ring
            assert (steps * np.roll(steps, 1, axis=0) == 0).all(), "every corner is one"
        firsts.append((y[0], x[0]))
    assert firsts == sorted(firsts)
    return found


@pytest.mark.parametrize("pixels", [6, 1 << 20])
def test_polygons_drawn_back_are_the_mask(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corners, "_STRIP_PIXELS", pixels)

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(MASKS)
    def each(mask: NDArray[np.uint8]) -> None:
        check(mask)

    each()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.45, 0.5, 0.55, 0.7, 0.9])
def test_so_are_those_of_noise_and_of_islands_in_lakes(share: float) -> None:
    check(np.where(share > NOISE, 255, 0).astype(np.uint8))
    smooth = ndimage.gaussian_filter(NOISE, 2)
    check(np.where(smooth < np.quantile(smooth, share), 255, 0).astype(np.uint8))


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_coco_s_own_tool_draws_the_same() -> None:
    mask = np.where(ndimage.gaussian_filter(NOISE, 2) < 0.5, 255, 0).astype(np.uint8)
    height, width = mask.shape
    found = np.zeros(mask.shape, np.bool_)
    for polygon in polygons(mask, 255):
        rings = coco_masks.frPyObjects([ring.astype(float).ravel().tolist() for ring in polygon.rings], height, width)
        outline, *holes = np.moveaxis(coco_masks.decode(rings).astype(bool), -1, 0)
        found |= outline & ~np.any(holes, axis=0) if holes else outline
    np.testing.assert_array_equal(found, mask > 0)


def test_the_edges_that_cv2_finds_lie_half_a_pixel_inside() -> None:
    mask = cv2.circle(np.zeros((60, 70), np.uint8), (30, 30), 20, 255, -1)
    (contour,), _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    (polygon,) = polygons(mask, 255)
    for middle in contour[:, 0]:
        assert cv2.pointPolygonTest(polygon.rings[0].astype(np.float32), (middle + 0.5).tolist(), True) == 0.5


def test_the_smallest_pieces_are_kept_and_have_an_area() -> None:
    mask = np.zeros((5, 9), np.uint8)
    mask[1, 1] = mask[3, 3:6] = 255
    first, second = check(mask)
    assert (first.rings[0].tolist(), first.area) == ([[1, 1], [2, 1], [2, 2], [1, 2]], 1)
    assert (second.rings[0].tolist(), second.box) == ([[3, 3], [6, 3], [6, 4], [3, 4]], (3, 3, 3, 1))


def test_what_touches_by_a_corner_is_two_pieces_and_a_lake_that_does_so_is_a_hole() -> None:
    two = np.array([[0, 1], [1, 0]], np.uint8) * 255
    assert [polygon.area for polygon in check(two)] == [1, 1]
    pinched = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], np.uint8) * 255
    (piece,) = check(pinched)
    assert [abs(turn(ring)) for ring in piece.rings] == [8, 1] and piece.area == 7


def test_an_island_in_a_hole_is_a_piece_of_its_own() -> None:
    mask = np.full((9, 9), 255, np.uint8)
    mask[2:7, 2:7] = 0
    mask[4, 4] = 255
    assert [(polygon.area, len(polygon.rings)) for polygon in check(mask)] == [(56, 2), (1, 1)]


def test_each_class_has_its_own_and_nothing_has_none() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[1:4, 1:7], mask[4:7, 1:7] = 1, 2
    assert [polygon.box for value in (1, 2, 3) for polygon in check(mask, value)] == [(1, 1, 6, 3), (1, 4, 6, 3)]
    assert check(np.zeros((4, 4), np.uint8)) == []
    assert [polygon.area for polygon in check(np.full((4, 6), 255, np.uint8))] == [24]


def test_too_many_corners_are_refused_with_what_to_ask_for() -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[::2, ::2] = 255
    assert len(list(polygons(mask, 255, most=1600))) == 400
    with pytest.raises(NotAcceptableError, match=r"more than 1,599 corners.*format=rle") as refused:
        list(polygons(mask, 255, most=1599))
    assert status_of(refused.value) == 406
