"""Training crops: the mask goes where the image goes, light changes the image alone, the generator decides all."""

import numpy as np
import pytest
from numpy.typing import NDArray

from resunet.augment import augmented_crop, random_crop, random_light, random_orientation


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _disc(height: int = 200, width: int = 160) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A bright disc on a dark ground, off centre, and its mask."""
    down, across = np.mgrid[:height, :width]
    mask = (((down - 70) ** 2 + (across - 100) ** 2) < 30**2).astype(np.uint8)
    return np.repeat((40 + 160 * mask)[..., None], 3, axis=2).astype(np.uint8), mask


def test_the_same_generator_gives_the_same_crop_and_another_another() -> None:
    rgb, mask = _disc()
    first, again, other = (augmented_crop(rgb, mask, 96, _rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("seed", range(20))
def test_the_mask_goes_where_the_image_goes(seed: int) -> None:
    picture, truth = random_crop(*_disc(), 96, _rng(seed))
    picture, truth = random_orientation(picture, truth, _rng(seed))
    bright = picture[..., 0] > 120
    assert np.mean(bright == truth.astype(bool)) > 0.99


def test_crops_differ_in_scale_and_angle() -> None:
    line = np.zeros((300, 300), np.uint8)
    line[145:155, :] = 1
    rgb = np.repeat(line[..., None] * 255, 3, axis=2).astype(np.uint8)
    thickness, slanted = [], 0
    for seed in range(60):
        _, truth = random_crop(rgb, line, 64, _rng(seed))
        rows = np.flatnonzero(truth.any(axis=1))
        slanted += not truth[rows].all()
        if truth[rows].all():
            thickness.append(len(rows))
    assert 15 <= slanted <= 45
    assert min(thickness) < 9.5 and max(thickness) > 10.5


def test_crops_look_for_foreground() -> None:
    mask = np.zeros((512, 512), np.uint8)
    mask[100:200, 100:200] = 1
    rgb = np.zeros((512, 512, 3), np.uint8)
    once = sum(random_crop(rgb, mask, 96, _rng(seed), tries=1)[1].any() for seed in range(100))
    thrice = sum(random_crop(rgb, mask, 96, _rng(seed), tries=3)[1].any() for seed in range(100))
    assert thrice > once + 10


def test_an_image_smaller_than_the_crop_is_mirrored() -> None:
    picture, truth = random_crop(*_disc(40, 40), 96, _rng(0))
    assert picture.shape == (96, 96, 3)
    assert truth.shape == (96, 96)
    assert picture.min() >= 40  # nothing was filled with black


def test_orientation_gives_all_eight() -> None:
    rgb = np.arange(3 * 16, dtype=np.uint8).reshape(4, 4, 3)
    mask = np.arange(16, dtype=np.uint8).reshape(4, 4)
    seen = {random_orientation(rgb, mask, _rng(seed))[1].tobytes() for seed in range(100)}
    assert len(seen) == 8


def test_light_keeps_the_order_of_grey_levels_within_bounds() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    brightness = []
    for seed in range(200):
        changed = random_light(np.repeat(ramp, 8, axis=0), _rng(seed)).astype(float)
        brightness.append(changed.mean() / 127.5)
        assert changed.shape == (8, 256, 3)
        assert np.all(np.diff(changed.mean(axis=(0, 2))[::16]) >= 0)
    assert 0.75 < min(brightness) < 0.93
    assert 1.07 < max(brightness) < 1.3


def test_light_gives_half_of_the_crops_a_colour_cast() -> None:
    grey = np.full((16, 16, 3), 128, np.uint8)
    cast = 0
    for seed in range(100):
        channels = random_light(grey, _rng(seed)).mean(axis=(0, 1))
        cast += bool(np.ptp(channels) > 0.5)
    assert 30 <= cast <= 70


def test_light_blurs_some_crops_and_adds_noise_to_some() -> None:
    flat = np.full((64, 64, 3), 128, np.uint8)
    edge = flat.copy()
    edge[:, 32:] = 200
    noisy = sum(random_light(flat, _rng(seed)).std(axis=(0, 1)).max() > 0.5 for seed in range(300))
    blurred = sum(len(np.unique(random_light(edge, _rng(seed))[..., 0])) in range(3, 12) for seed in range(300))
    assert 10 <= noisy <= 60
    assert 10 <= blurred <= 60
