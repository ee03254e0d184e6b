"""What a change of descriptors looks like, in words that a person can check by looking at the images.

looks_like(drift)               # ["colour images where the training images were grey", …]

A guess from the descriptors that moved, and from nothing else: it says where to look first, not what is the case.
"""

from collections.abc import Callable, Mapping
from typing import Final

from monitoring.drift import ColumnDrift, Drift

_GREY: Final = 0.05
_MIDDLE: Final = 128

Moved = Mapping[str, ColumnDrift]
Sees = Callable[[Moved], bool]


def looks_like(drift: Drift) -> list[str]:
    """What may have happened, the most telling first; empty where no descriptor moved."""
    moved = {column.column: column for column in drift.moved}
    return [words for sees, words in _GUESSES if sees(moved)]


def _up(moved: Moved, *names: str) -> bool:
    return all(name in moved and moved[name].live_mean > moved[name].reference_mean for name in names)


def _down(moved: Moved, *names: str) -> bool:
    return all(name in moved and moved[name].live_mean < moved[name].reference_mean for name in names)


def _gets_colour(moved: Moved) -> bool:
    return _up(moved, "saturation") and moved["saturation"].reference_mean < _GREY


def _loses_colour(moved: Moved) -> bool:
    return _down(moved, "saturation") and moved["saturation"].live_mean < _GREY


def _gets_light(moved: Moved) -> bool:
    return _up(moved, "brightness") and moved["brightness"].reference_mean < _MIDDLE <= moved["brightness"].live_mean


def _gets_dark(moved: Moved) -> bool:
    return _down(moved, "brightness") and moved["brightness"].live_mean < _MIDDLE <= moved["brightness"].reference_mean


def _changes_hue(moved: Moved) -> bool:
    shifts = [moved[name].shift for name in ("mean_r", "mean_g", "mean_b") if name in moved]
    known = [shift for shift in shifts if shift is not None]
    apart = len(known) < 3 or max(known) * min(known) < 0
    return bool(known) and apart and not (_gets_colour(moved) or _loses_colour(moved))


_GUESSES: Final[tuple[tuple[Sees, str], ...]] = (
    (_gets_colour, "colour images where the training images were grey"),
    (_loses_colour, "grey images where the training images were in colour"),
    (_gets_light, "a bright background where the training images were dark"),
    (_gets_dark, "a dark background where the training images were bright"),
    (lambda m: _up(m, "brightness") and not _gets_light(m), "brighter images: a longer exposure, more light"),
    (lambda m: _down(m, "brightness") and not _gets_dark(m), "darker images: a shorter exposure, less light"),
    (_changes_hue, "another stain, filter or white balance"),
    (lambda m: _up(m, "clipped_high"), "overexposed: more pixels at the largest value"),
    (lambda m: _up(m, "clipped_low"), "underexposed, or with a black border: more pixels at 0"),
    (lambda m: _down(m, "sharpness") and "noise" not in m, "blurred: out of focus, or scaled up"),
    (lambda m: _down(m, "sharpness", "noise"), "smoother: blurred, denoised, or compressed as JPEG"),
    (lambda m: _down(m, "noise") and "sharpness" not in m, "smoother: denoised, or compressed as JPEG"),
    (lambda m: _up(m, "noise"), "noisier: a higher gain of the camera, or sharpened"),
    (lambda m: _up(m, "sharpness") and "noise" not in m, "sharper: another objective, or sharpened"),
    (lambda m: bool({"width", "height", "aspect"} & set(m)), "another size of image: another camera, tiles or crops"),
    (lambda m: _up(m, "component_count"), "more objects in an image, or objects that fall to pieces"),
    (lambda m: _down(m, "component_count"), "fewer objects in an image, or objects that grow together"),
    (lambda m: _up(m, "foreground_fraction"), "more of each image is foreground"),
    (lambda m: _down(m, "foreground_fraction"), "less of each image is foreground"),
    (lambda m: _down(m, "confidence"), "the network is less sure of its masks"),
)
