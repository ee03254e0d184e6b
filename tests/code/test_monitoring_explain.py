"""Changed images, described and judged: the guess is what was done to them."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring.drift import ColumnDrift, Drift, Family, Rule
from monitoring.explain import looks_like
from monitoring.judge import judge
from monitoring.words import change, summary
from pipelines.data.synthetic import Knobs, draw
from resunet.descriptors import IMAGE_DESCRIPTORS, describe_image

Rgb = NDArray[np.uint8]


def drawn(seed: int, count: int, knobs: Knobs) -> list[Rgb]:
    rng = np.random.default_rng(seed)
    return [draw(rng, knobs)[0] for _ in range(count)]


def judged(reference: list[Rgb], live: list[Rgb]) -> Drift:
    rows = [np.array([list(describe_image(rgb).values()) for rgb in images]) for images in (reference, live)]
    return judge([Family("input", IMAGE_DESCRIPTORS, rows[0], rows[1])], Rule())


DARK = Knobs(stain="fluorescence", size=(64, 96))
REFERENCE = drawn(0, 60, DARK)
LIVE = drawn(1, 30, DARK)


@pytest.mark.parametrize(
    ("live", "guess"),
    [
        (drawn(2, 30, Knobs(stain="histology", size=(64, 96))), "colour images where the training images were grey"),
        ([cv2.GaussianBlur(rgb, (0, 0), 1.5) for rgb in LIVE], "smoother: blurred, denoised, or compressed as JPEG"),
        (drawn(3, 30, Knobs(stain="fluorescence", size=(64, 96), noise=12)), "noisier: a higher gain of the camera"),
        ([cv2.convertScaleAbs(rgb, alpha=1.8) for rgb in LIVE], "brighter images: a longer exposure, more light"),
        (drawn(4, 30, Knobs(stain="fluorescence", size=(160, 192))), "another size of image"),
    ],
)
def test_what_was_done_to_images_is_among_the_first_guesses(live: list[Rgb], guess: str) -> None:
    assert any(words.startswith(guess) for words in looks_like(judged(REFERENCE, live))[:3])


def test_where_nothing_moved_nothing_is_guessed() -> None:
    assert looks_like(judged(REFERENCE, LIVE)) == []


def moved(name: str, before: float, now: float) -> ColumnDrift:
    return ColumnDrift(name, "input", 0.001, 0.9, 3.0, before, now, 1.0, 100, 50, True)


def test_a_change_is_a_percentage_or_two_numbers_with_their_unit() -> None:
    assert change(moved("brightness", 50, 69)) == "brightness +38 %"
    assert change(moved("saturation", 0.02, 0.41)) == "saturation 0.02 → 0.41"
    assert change(moved("entropy", 4.1, 5.2)) == "entropy 4.1 → 5.2 bits"
    assert change(moved("sharpness", 0, 5)) == "sharpness 0 → 5 grey levels²"


def test_the_line_of_a_window_says_what_changed_in_words_and_units() -> None:
    columns = [
        moved("brightness", 50, 69),
        moved("saturation", 0.02, 0.41),
        moved("mean_r", 58.6, 65),
        moved("noise", 1, 2),
    ]
    line = summary(Drift("drift", Rule(), columns=tuple(columns)))
    assert line == (
        "drift: 4 of 4 descriptors moved, most of all brightness +38 %, saturation 0.02 → 0.41, "
        "mean_r 58.6 → 65 grey levels"
    )
