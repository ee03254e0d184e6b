"""The changes that a version has to bear: each is what its title says, the same each time, and needs little memory."""

import re
import tracemalloc

import numpy as np
import pytest
from version_factory import draw

from pipelines.evidence.changes import CHANGES, Rgb


def changed(name: str, rgb: Rgb, seed: int = 0) -> Rgb:
    return CHANGES[name].apply(rgb, np.random.default_rng(seed))


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_keeps_the_image_it_is_given_and_its_shape(name: str) -> None:
    rgb = draw(70, 90)
    before = rgb.copy()
    found = changed(name, rgb)
    assert found.shape == rgb.shape and found.dtype == np.uint8 and found.flags.c_contiguous
    assert np.array_equal(rgb, before) and not np.array_equal(found, before)
    assert np.array_equal(found, changed(name, rgb))
    # Bounded: a person sees the same.
    steps = np.abs(found.astype(int) - CHANGES[name].truth(rgb).astype(int))
    assert steps.mean() < 60


def test_noise_has_the_strength_that_it_is_named_after_and_differs_with_the_draw() -> None:
    grey = np.full((700, 500, 3), 128, np.uint8)
    noise = changed("noise", grey).astype(float) - 128
    sigma = float(re.findall(r"σ ([\d.]+)", CHANGES["noise"].title)[0])
    assert noise.std() == pytest.approx(sigma, rel=0.01) and abs(noise.mean()) < 0.05
    # No strip is another's copy, and no channel.
    assert abs(np.corrcoef(noise[:256, :, 0].ravel(), noise[256:512, :, 0].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02
    assert not np.array_equal(changed("noise", grey, 1), changed("noise", grey))
    white = changed("noise", np.full((64, 64, 3), 255, np.uint8))
    assert white.max() == 255 and white.min() > 200, "what is brighter than white must not come out black"


@pytest.mark.parametrize("name", ["darker", "brighter"])
def test_brightness_is_multiplied_and_cut_off_at_white(name: str) -> None:
    factor = float(re.findall(r"× ([\d.]+)", CHANGES[name].title)[0])
    levels = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (16, 256, 3)).copy()
    assert np.array_equal(changed(name, levels), np.minimum(np.rint(levels * factor), 255).astype(np.uint8))


def test_blur_is_a_gaussian_of_the_sigma_that_it_is_named_after() -> None:
    point = np.zeros((31, 31, 3), np.uint8)
    point[15, 15] = 255
    found = changed("blur", point).astype(float)
    sigma = float(re.findall(r"σ ([\d.]+)", CHANGES["blur"].title)[0])
    place = np.arange(31) - 15
    assert found.sum() == pytest.approx(255 * 3, rel=0.05)
    assert (found.sum(axis=(1, 2)) * place**2).sum() / found.sum() == pytest.approx(sigma**2, rel=0.1)


def test_jpeg_loses_detail_and_keeps_the_picture() -> None:
    rgb = draw(120, 120)
    found = changed("jpeg", rgb).astype(float)
    error = np.abs(found - rgb).mean()
    assert 1 < error < 12


def test_the_truth_is_flipped_with_the_image_and_only_then() -> None:
    mask = draw(40, 50)[..., 0]
    assert np.array_equal(CHANGES["mirrored"].truth(mask), mask[:, ::-1])
    assert np.array_equal(CHANGES["upside_down"].truth(mask), mask[::-1])
    for name in ("mirrored", "upside_down"):
        rgb = np.repeat(mask[..., None], 3, axis=2)
        assert np.array_equal(changed(name, rgb)[..., 0], CHANGES[name].truth(mask))
    for name in set(CHANGES) - {"mirrored", "upside_down"}:
        assert CHANGES[name].truth(mask) is mask


@pytest.mark.parametrize("name", CHANGES)
def test_a_large_image_takes_little_more_than_the_changed_one(name: str) -> None:
    """A float64 of noise an image alone would be 8 bytes for each of the image's."""
    rgb = np.tile(draw(250, 250), (12, 12, 1))
    tracemalloc.start()
    try:
        changed(name, rgb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.2 * rgb.nbytes
