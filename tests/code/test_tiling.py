"""Tiles cover each pixel once, keep to the stride's grid and give the whole image's answer."""

import itertools

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from resunet.errors import SettingsError
from resunet.tiling import tiles

SIZES = [(16, 16), (97, 131), (64, 64), (65, 200), (128, 1), (63, 129)]


@pytest.mark.parametrize(("size", "halo"), list(itertools.product(SIZES, [0, 3, 8, 48])))
def test_every_pixel_is_kept_exactly_once(size: tuple[int, int], halo: int) -> None:
    counts = np.zeros(size, np.int64)
    for tile in tiles(*size, core=32, halo=halo, stride=8):
        counts[tile.keep] += 1
        assert tile.kept_pixels == counts[tile.keep].size
    assert (counts == 1).all()


@pytest.mark.parametrize("size", SIZES)
def test_boxes_begin_on_the_stride_and_stay_inside_with_a_full_halo_on_inner_sides(
    size: tuple[int, int],
) -> None:
    height, width = size
    for tile in tiles(height, width, core=32, halo=5, stride=8):
        assert tile.top % 8 == 0 and tile.left % 8 == 0
        assert tile.top >= 0 and tile.left >= 0 and tile.bottom <= height and tile.right <= width
        assert tile.top == 0 or tile.keep_top - tile.top >= 5
        assert tile.left == 0 or tile.keep_left - tile.left >= 5
        assert tile.bottom == height or tile.bottom - tile.keep_bottom >= 5
        assert tile.right == width or tile.right - tile.keep_right >= 5


def _two_layers_at_half_size(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """A 5x5 convolution, every second pixel, a 3x3 convolution, nearest upsampling: radius 4, stride 2."""
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(5, 5)), rng.normal(size=(3, 3))
    height, width = image.shape
    padded = cv2.copyMakeBorder(image, 0, -height % 2, 0, -width % 2, cv2.BORDER_REPLICATE)
    half = cv2.filter2D(padded, -1, first, borderType=cv2.BORDER_CONSTANT)[::2, ::2]
    half = cv2.filter2D(np.ascontiguousarray(half), -1, second, borderType=cv2.BORDER_CONSTANT)
    return half.repeat(2, axis=0).repeat(2, axis=1)[:height, :width].astype(np.float32)


def _tiled(image: NDArray[np.float32], halo: int) -> NDArray[np.float32]:
    answer = np.full_like(image, np.nan)
    for tile in tiles(*image.shape, core=24, halo=halo, stride=2):
        answer[tile.keep] = _two_layers_at_half_size(image[tile.read])[tile.crop]
    return answer


@pytest.mark.parametrize("size", [(50, 75), (96, 96), (131, 97)])
def test_convolutions_tile_by_tile_equal_the_whole(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).normal(size=size).astype(np.float32)
    assert np.allclose(_tiled(image, halo=4), _two_layers_at_half_size(image), atol=1e-4)


def test_a_halo_below_the_receptive_field_is_noticed() -> None:
    image = np.random.default_rng(0).normal(size=(96, 96)).astype(np.float32)
    assert not np.allclose(_tiled(image, halo=2), _two_layers_at_half_size(image), atol=1e-4)


@pytest.mark.parametrize("wrong", [{"core": 30}, {"core": 0}, {"halo": -1}, {"stride": 0}])
def test_senseless_lengths_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        tiles(**{"height": 100, "width": 100, "core": 32, "halo": 8, "stride": 8} | wrong)
