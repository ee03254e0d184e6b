"""Descriptors are what their definitions say, whatever the strips, and finite for any image."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from benchmarks.descriptors import describe_plainly, disagreements, main, specimen
from resunet import descriptors
from resunet.descriptors import (
    IMAGE_DESCRIPTORS,
    PREDICTION_DESCRIPTORS,
    count_components,
    describe_image,
    describe_prediction,
)
from resunet.errors import ImageError
from resunet.images import read_image

NUCLEI = Path(__file__).resolve().parents[2].parent / "shared/data/nuclei"
ROOT = Path(__file__).resolve().parents[2]


def flat(*colour: int, side: int = 32) -> np.ndarray:
    return np.full((side, side, 3), colour, np.uint8)


@pytest.mark.parametrize("shape", [(256, 256), (97, 131), (16, 300), (3, 3)])
def test_values_equal_plain_definitions(shape: tuple[int, int]) -> None:
    image = np.ascontiguousarray(specimen(300, seed=1)[: shape[0], : shape[1]])
    described = describe_image(image)
    assert tuple(described) == IMAGE_DESCRIPTORS
    assert disagreements(described, describe_plainly(image)) == []


@pytest.mark.nuclei
def test_values_equal_plain_definitions_on_real_images() -> None:
    if not NUCLEI.is_dir():
        if os.environ.get("RESUNET_REQUIRE_NUCLEI"):
            pytest.fail("the nuclei data set is missing")
        pytest.skip("the nuclei data set is not beside the checkout")
    for path in sorted((NUCLEI / "images").iterdir())[:12]:
        image = read_image(path)
        assert disagreements(describe_image(image), describe_plainly(image)) == []


@pytest.mark.parametrize("strip", [1, 200, 1000, 5000])
def test_strips_do_not_change_a_value(monkeypatch: pytest.MonkeyPatch, strip: int) -> None:
    image = specimen(97, seed=2)
    mask = (image[..., 0] > 60).astype(np.uint8)
    whole = describe_image(image), describe_prediction(mask, image[..., 1], 0.5)
    monkeypatch.setattr(descriptors, "_STRIP_PIXELS", strip)
    assert (describe_image(image), describe_prediction(mask, image[..., 1], 0.5)) == whole


def test_a_view_is_described_like_its_copy() -> None:
    image = specimen(64, seed=3)
    view = image[::-1, ::-1]
    assert describe_image(view) == describe_image(view.copy())


@pytest.mark.parametrize("shape", [(0, 0), (0, 7), (7, 0), (1, 1), (1, 9), (9, 1), (2, 2), (16, 16)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_constant_and_zero_size_images_give_finite_numbers(shape: tuple[int, int], value: int) -> None:
    described = describe_image(np.full((*shape, 3), value, np.uint8))
    assert all(math.isfinite(number) for number in described.values())
    for name in ("contrast", "saturation", "hue_spread", "entropy", "sharpness", "noise"):
        assert described[name] == 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_every_image_gives_finite_numbers_within_their_ranges(image: np.ndarray) -> None:
    described = describe_image(image)
    assert all(math.isfinite(number) and number >= 0 for number in described.values())
    for name in ("saturation", "hue_spread", "clipped_low", "clipped_high"):
        assert described[name] <= 1
    assert described["entropy"] <= 8


def test_units() -> None:
    described = describe_image(flat(200, 100, 50))
    assert (described["mean_r"], described["mean_g"], described["mean_b"]) == (200, 100, 50)
    assert described["brightness"] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert described["saturation"] == pytest.approx(150 / 200, abs=2e-3)
    assert describe_image(np.zeros((20, 30, 3), np.uint8))["aspect"] == 1.5


def test_hue_spread_is_0_for_one_hue_or_grey_and_1_for_opposite_hues() -> None:
    two = flat(255, 0, 0)
    two[:16] = (0, 255, 255)
    assert describe_image(flat(90, 30, 30))["hue_spread"] == pytest.approx(0, abs=1e-9)
    assert describe_image(flat(90, 90, 90))["hue_spread"] == 0
    assert describe_image(two)["hue_spread"] == pytest.approx(1)


def test_hue_spread_weighs_by_saturation() -> None:
    image = flat(255, 0, 0)
    image[:16] = (250, 255, 255)
    assert describe_image(image)["hue_spread"] < 0.1


def test_clipping_looks_at_the_brightest_channel() -> None:
    image = flat(10, 10, 10)
    image[:8] = 0
    image[8:12] = (255, 0, 0)
    described = describe_image(image)
    assert (described["clipped_low"], described["clipped_high"]) == (8 / 32, 4 / 32)


@pytest.mark.parametrize("sigma", [2.0, 5.0, 10.0])
def test_noise_measures_added_white_noise_in_levels(sigma: float) -> None:
    grey = np.clip(np.random.default_rng(4).normal(128, sigma, (256, 256)), 0, 255).astype(np.uint8)
    assert describe_image(np.dstack([grey] * 3))["noise"] == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize(
    ("change", "name", "rises"),
    [
        (lambda image: image // 2, "brightness", False),
        (lambda image: image // 2, "contrast", False),
        (lambda image: cv2.GaussianBlur(image, (0, 0), 1), "sharpness", False),
        (lambda image: cv2.GaussianBlur(image, (0, 0), 1), "noise", False),
        (lambda image: image // 16 * 16, "entropy", False),
        (lambda image: cv2.add(image, (0, 60, 0, 0)), "mean_g", True),
        (lambda image: cv2.multiply(image, (4, 4, 4, 4)), "clipped_high", True),
        (lambda image: np.repeat(image[..., 1:2], 3, axis=2), "saturation", False),
    ],
)
def test_a_change_of_the_image_moves_its_descriptor(
    change: Callable[[np.ndarray], np.ndarray], name: str, rises: bool
) -> None:
    image = specimen(128, seed=5)
    before, after = describe_image(image)[name], describe_image(np.ascontiguousarray(change(image)))[name]
    assert (after > before * 1.1) if rises else (after < before * 0.9)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_another_shape_or_type_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"\(H, W, 3\) uint8"):
        describe_image(wrong)


def test_a_large_image_needs_little_memory() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests/code'); from peak_memory import peak_bytes\n"
        "import numpy as np; from resunet.descriptors import describe_image, describe_prediction\n"
        "image = np.full((6_000, 6_000, 3), 7, np.uint8); image[::9, ::7] = 200\n"
        "mask = image[..., 0].copy(); before = peak_bytes()\n"
        "assert describe_image(image)['height'] == 6_000\n"
        "describe_prediction(mask, mask, 0.5); print((peak_bytes() - before) / 2**20)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert float(done.stdout) < 100


# Predictions.


def test_a_prediction_is_described() -> None:
    mask = np.zeros((40, 50), np.uint8)
    mask[2:10, 2:10] = 255
    mask[10:14, 10:14] = 255  # touches the first at a corner: one 8-connected part
    mask[30:36, 30:36] = 255
    probability = np.where(mask > 0, 255, 0).astype(np.uint8)
    described = describe_prediction(mask, probability, 0.9)
    assert tuple(described) == PREDICTION_DESCRIPTORS
    assert described["foreground_fraction"] == (64 + 16 + 36) / 2000
    assert described["component_count"] == 2
    assert described["confidence"] == 0.9
    assert described["boundary_uncertainty"] == 0


def test_boundary_uncertainty_is_4p1p_in_a_band_of_2_pixels() -> None:
    rng = np.random.default_rng(6)
    classes = (cv2.GaussianBlur(rng.random((60, 80)), (0, 0), 4) * 40).astype(np.uint8) % 3
    probability = rng.integers(0, 256, classes.shape).astype(np.uint8)
    padded = np.pad(classes, 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))
    band = windows.min(axis=(2, 3)) != windows.max(axis=(2, 3))
    p = probability[band] / 255
    described = describe_prediction(classes, probability, 0.5)
    assert 0 < band.mean() < 1
    assert described["boundary_uncertainty"] == pytest.approx((4 * p * (1 - p)).mean())


def test_uncertainty_away_from_the_boundary_does_not_count() -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[:, 20:] = 1
    probability = np.full((40, 40), 128, np.uint8)
    probability[:, 18:22] = 255
    assert describe_prediction(mask, probability, 1)["boundary_uncertainty"] == 0
    probability[:, 18:22], probability[:, :18], probability[:, 22:] = 128, 0, 0
    assert describe_prediction(mask, probability, 1)["boundary_uncertainty"] > 0.99


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (16, 16)])
@pytest.mark.parametrize("value", [0, 1, 255])
def test_a_mask_without_a_boundary_gives_finite_numbers(shape: tuple[int, int], value: int) -> None:
    mask = np.full(shape, value, np.uint8)
    described = describe_prediction(mask, np.full(shape, 128, np.uint8), 0.5)
    assert described["boundary_uncertainty"] == 0
    assert described["component_count"] == float(value > 0 and mask.size > 0)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    mask=hnp.arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.integers(0, 1)),
    rows=st.integers(2, 4),
)
def test_components_joined_over_strips_are_those_of_the_whole(mask: np.ndarray, rows: int) -> None:
    expected = ndimage.label(mask, np.ones((3, 3)))[1]
    before = descriptors._STRIP_PIXELS
    try:
        descriptors._STRIP_PIXELS = rows * mask.shape[1]  # type: ignore[misc]
        assert count_components(mask) == expected
    finally:
        descriptors._STRIP_PIXELS = before  # type: ignore[misc]


def test_a_prediction_of_another_shape_or_type_is_refused() -> None:
    mask = np.zeros((4, 5), np.uint8)
    for wrong in (mask.T, mask.astype(np.float32)):
        with pytest.raises(ImageError, match=r"\(H, W\) uint8"):
            describe_prediction(mask, wrong, 0.5)


def test_the_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--smoke"])
    assert "describe_image" in capsys.readouterr().out
