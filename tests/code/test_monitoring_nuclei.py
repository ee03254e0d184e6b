"""Drift of real images: microscope images of nuclei as they are, of another modality, and changed in small ways."""

import csv
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring.drift import Drift, Family, Rule
from monitoring.explain import looks_like
from monitoring.judge import judge
from monitoring.statistics.relabelling import Floats
from monitoring.statistics.trend import trend_test
from monitoring.words import change
from resunet.descriptors import IMAGE_DESCRIPTORS, describe_image
from resunet.images import read_image

NUCLEI = Path(__file__).resolve().parents[2].parent / "shared/data/nuclei"
REFERENCE, WINDOW = 200, 50
# Enough for a reference and a window, drawn anew for each seed.
LOOKED_AT = 300
SEEDS = range(6)

Rgb = NDArray[np.uint8]

pytestmark = pytest.mark.nuclei


def grey(rgb: Rgb) -> Rgb:
    return np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def blur(rgb: Rgb) -> Rgb:
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), 0.5), np.uint8)


def gamma(rgb: Rgb, exponent: float) -> Rgb:
    return np.rint(255 * (rgb / 255.0) ** exponent).astype(np.uint8)


def described(images: list[Rgb]) -> Floats:
    """(N, D): descriptors of images, in the order of IMAGE_DESCRIPTORS."""
    rows = [describe_image(rgb) for rgb in images]
    return np.array([[row[name] for name in IMAGE_DESCRIPTORS] for row in rows])


class Described:
    """Images of the data set, described as they are and changed."""

    def __init__(self) -> None:
        with (NUCLEI / "metadata.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        # Larger ones, a fifth of them, take longer than all others together. Their names are in random order.
        small = [row for row in rows if int(row["width"]) <= 360]
        self._files = {
            modality: sorted(row["file"] for row in small if row["modality"] == modality)[:LOOKED_AT]
            for modality in ("fluorescence", "histology")
        }
        self._images: dict[str, Rgb] = {}
        self.fluorescence = described([self._read(file) for file in self._files["fluorescence"]])

    def split(self, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of a reference's images and of a window's, which are not among them."""
        order = np.random.default_rng(seed).permutation(len(self.fluorescence))
        return order[:REFERENCE], order[REFERENCE : REFERENCE + WINDOW]

    def changed(self, places: NDArray[np.int64], way: Callable[[Rgb], Rgb]) -> Floats:
        return described([way(self._read(self._files["fluorescence"][place])) for place in places])

    def histology(self, way: Callable[[Rgb], Rgb]) -> Floats:
        return described([way(self._read(file)) for file in self._files["histology"][:WINDOW]])

    def verdict(self, reference: NDArray[np.int64], window: Floats) -> Drift:
        return judge([Family("input", IMAGE_DESCRIPTORS, self.fluorescence[reference], window)], Rule())

    def _read(self, file: str) -> Rgb:
        if file not in self._images:
            self._images[file] = read_image(NUCLEI / "images" / file)
        return self._images[file]


@pytest.fixture(scope="session")
def nuclei() -> Described:
    if not NUCLEI.is_dir():
        if os.environ.get("RESUNET_REQUIRE_NUCLEI"):
            pytest.fail("the nuclei data set is missing")
        pytest.skip("the nuclei data set is not beside the checkout")
    return Described()


@pytest.mark.parametrize("seed", SEEDS)
def test_images_of_the_same_kind_are_no_drift(nuclei: Described, seed: int) -> None:
    reference, window = nuclei.split(seed)
    drift = nuclei.verdict(reference, nuclei.fluorescence[window])
    assert (drift.verdict, drift.moved) == ("no drift", ())
    assert looks_like(drift) == []


@pytest.mark.parametrize("seed", [0, 1])
def test_images_of_another_modality_are_drift_though_they_are_made_grey(nuclei: Described, seed: int) -> None:
    drift = nuclei.verdict(nuclei.split(seed)[0], nuclei.histology(grey))
    assert drift.verdict == "drift"
    assert {"brightness", "contrast", "entropy"} <= {column.column for column in drift.moved}
    assert looks_like(drift)[0] == "a bright background where the training images were dark"


def test_in_colour_it_is_the_colour_that_is_named_first(nuclei: Described) -> None:
    drift = nuclei.verdict(nuclei.split(0)[0], nuclei.histology(lambda rgb: rgb))
    assert drift.moved[0].column == "saturation"
    assert change(drift.moved[0]).startswith("saturation 0 → 0.2")
    assert looks_like(drift)[0] == "colour images where the training images were grey"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_half_a_pixel_of_blur_is_drift(nuclei: Described, seed: int) -> None:
    reference, window = nuclei.split(seed)
    drift = nuclei.verdict(reference, nuclei.changed(window, blur))
    assert drift.verdict == "drift"
    # What moved is how fine the images are, and nothing that blur leaves as it was.
    assert "noise" in {column.column for column in drift.moved} <= {"noise", "sharpness"}
    assert all(change(column).split(" ")[1].startswith("-") for column in drift.moved)
    (guess,) = looks_like(drift)
    assert guess.startswith("smoother: ")


def test_another_gamma_is_drift_and_is_called_brighter_and_not_another_colour_or_size(nuclei: Described) -> None:
    reference, window = nuclei.split(0)
    drift = nuclei.verdict(reference, nuclei.changed(window, lambda rgb: gamma(rgb, 0.7)))
    moved = {column.column: change(column) for column in drift.moved}
    assert {"brightness", "mean_r", "mean_g", "mean_b"} <= set(moved)
    assert not {"saturation", "hue_spread", "width", "height", "aspect"} & set(moved)
    # Of an image that is nearly black 0.7 makes about twice as bright a one.
    assert 80 < int(moved["brightness"].removeprefix("brightness +").removesuffix(" %")) < 150
    guesses = looks_like(drift)
    assert guesses[0] == "brighter images: a longer exposure, more light"
    assert not any("colour" in guess or "stain" in guess or "size" in guess for guess in guesses)


def test_a_little_gamma_is_drift_too(nuclei: Described) -> None:
    reference, window = nuclei.split(0)
    assert nuclei.verdict(reference, nuclei.changed(window, lambda rgb: gamma(rgb, 0.9))).verdict == "drift"


def test_another_gamma_from_some_window_on_is_a_trend_of_brightness_that_turns_there(nuclei: Described) -> None:
    windows = np.random.default_rng(0).permutation(LOOKED_AT).reshape(12, 25)
    still = np.stack([nuclei.fluorescence[places].mean(axis=0) for places in windows])
    brighter = [nuclei.changed(places, lambda rgb: gamma(rgb, 0.6)).mean(axis=0) for places in windows[6:]]
    assert trend_test(still, np.random.default_rng(0)).p_value > 0.05
    found = trend_test(np.concatenate([still[:6], brighter]), np.random.default_rng(0))
    rising = {
        name: found.turned[place]
        for place, name in enumerate(IMAGE_DESCRIPTORS)
        if found.columns_p[place] <= 0.005 and found.change[place] > 0
    }
    # After the sixth.
    assert rising == dict.fromkeys(("brightness", "mean_r", "mean_g", "mean_b", "noise"), 5)
