"""The mean Dice of a window without labels, from the confidence of its images, and when not to believe it.

    found = estimate_window(confidences, held_out_scores(version, folder), drifted=False, far_share=0.01)
    found.dice, found.low, found.high                # or found.declined: why there is none
    low, high = image_intervals(confidences, scores)                                # of each image

The confidence of an image is the Dice that its calibrated soft Dice (arXiv 2402.10665) has meant on the validation
split. What that leaves out is seen on the version's test images, which neither training nor calibration has seen:
their residuals, Dice minus confidence. The window's mean Dice is its mean confidence plus the mean residual, taken bin
by bin of confidence, since unsure images have larger ones. Its prediction interval holds two errors: that of the
residuals' mean (the test images are a sample; whole groups are drawn) and that of the window, a sample of `n` itself.
Both are drawn anew again and again, and the interval is that of their sum (a bootstrap prediction interval, Stine
1985). A rare failure that no test image shows would make it too narrow, so half an image that lost a quarter of its
Dice is counted with them (half a count as Krichevsky & Trofimov 1981). Where none, 0.5, 2 or 5 % of simulated images
have lost half of their Dice (86 tested, 50 in a window), 90 % intervals held 95, 89, 89 and 89 %, without it 89, 86,
87 and 89 %. Nor is the interval ever narrower than that half image alone makes it, however alike all others are. It is
right as long as images are like the test images: under drift, confidence is known to stay high where Dice falls, so
there the estimate is declined, not widened.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitoring.performance.version_files import HeldOutScores

Numbers = NDArray[np.float64]

LEVEL: Final = 0.9
MIN_TEST: Final = 20
MIN_WINDOW: Final = 10
_FAR: Final = 0.05
_UNLIKELY: Final = 0.005
_BELOW: Final = 0.05
# Of the Dice that is possible: what an image that nobody has seen may have lost.
_LOST: Final = 0.25
# Added to 1 - confidence, so that the interval of a sure image has a width.
_LEAST_DOUBT: Final = 0.05
_BIN: Final = 25
_BINS: Final = 3
_DRAWS: Final = 2000
# Means of more values are drawn from a normal distribution: none can be told from it.
_EXACT: Final = 256
OUTSIDE: Final = "outside what can be estimated"


@dataclass(frozen=True)
class Estimate:
    """Estimated mean Dice of a window with its prediction interval; nan where it is declined.

    Attributes:
        images: with a confidence.
        level: of the interval.
        declined: why there is no estimate.
    """

    dice: float
    low: float
    high: float
    images: int
    level: float = LEVEL
    declined: str | None = None


def estimate_window(
    confidence: ArrayLike,
    scores: HeldOutScores,
    *,
    drifted: bool,
    far_share: float | None,
    level: float = LEVEL,
    seed: int = 0,
) -> Estimate:
    """Estimate the mean Dice of a window.

    Args:
        confidence: (n,) of its images, 0 to 1; nan is left out.
        scores: of the version's test images.
        drifted: the verdict on the window.
        far_share: of its images, beyond the reference's own 99 % distance (`ReferenceSpace.radius`); None: unknown.
        level: of the interval.
        seed: of the draws; the same input gives the same interval.
    """
    stated = np.asarray(confidence, np.float64).ravel()
    stated = stated[np.isfinite(stated)]
    why = _why_not(stated, scores, drifted, far_share)
    if why is not None:
        return Estimate(math.nan, math.nan, math.nan, stated.size, level, why)
    residuals = scores.dice - scores.confidence
    edges = _edges(scores.confidence)
    test_bins, live_bins = np.digitize(scores.confidence, edges), np.digitize(stated, edges)
    bins = edges.size + 1
    counts = np.bincount(live_bins, minlength=bins)
    parts = [residuals[test_bins == one] for one in range(bins)]
    weights = counts / stated.size
    mean = min(max(float(stated.mean() + weights @ [part.mean() for part in parts]), 0.0), 1.0)
    rng = np.random.default_rng(seed)
    errors = _calibration_errors(residuals, test_bins, weights, scores.groups, rng)
    errors = errors + _sampling_errors(parts, counts, rng)
    errors = _with_unseen(errors, residuals, scores, stated.size, rng)
    low, high = np.quantile(errors, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(mean, *_clipped(mean + low, mean + high), stated.size, level)


def image_intervals(
    confidence: ArrayLike, scores: HeldOutScores, level: float = LEVEL, *, far: NDArray[np.bool_] | None = None
) -> tuple[Numbers, Numbers]:
    """The Dice of each image alone, as an interval around its confidence: split conformal prediction.

    The version's test images calibrate it. Their residuals are divided by 1 - confidence (and a little), so that an
    unsure image has a wider interval (locally weighted: Lei et al. 2018, arXiv 1604.04173, 5.2). It holds the stated
    share of images that are like the test images, whatever the distribution.

    Args:
        confidence: (n,) of the images, 0 to 1.
        scores: of the version's test images.
        level: share of images whose Dice lies within.
        far: (n,) which of them lie beyond the reference's own 99 % distance (`ReferenceSpace.radius`); None: none does.

    Returns:
        low, high: (n,), 0 to 1; all that is possible where too few images were tested; nan where an image is far, since
        there a version may be sure and wrong.
    """
    stated = np.array(confidence, np.float64).ravel()
    if far is not None:
        stated[far] = np.nan
    tested = scores.dice.size
    place = math.ceil(level * (tested + 1))
    if place > tested:
        known = np.isfinite(stated)
        return np.where(known, 0.0, np.nan), np.where(known, 1.0, np.nan)
    off = np.sort(np.abs(scores.dice - scores.confidence) / (1 - scores.confidence + _LEAST_DOUBT))
    width = off[place - 1] * (1 - stated + _LEAST_DOUBT)
    return np.clip(stated - width, 0, 1), np.clip(stated + width, 0, 1)


def _clipped(low: float, high: float) -> tuple[float, float]:
    return min(max(float(low), 0.0), 1.0), min(max(float(high), 0.0), 1.0)


def _why_not(stated: Numbers, scores: HeldOutScores, drifted: bool, far_share: float | None) -> str | None:
    from scipy.stats import binom

    if stated.size < MIN_WINDOW:
        return f"too few images: {stated.size}, at least {MIN_WINDOW} are needed"
    if scores.dice.size < MIN_TEST:
        return f"the version was tested on {scores.dice.size} images, at least {MIN_TEST} are needed"
    if drifted:
        return f"{OUTSIDE}: the window has drifted from what the version was tested on"
    # Of images like n others, so many may lie beyond the outermost of these: the bound of a Beta(1, n).
    chance = 1 - _UNLIKELY ** (1 / scores.dice.size)
    if far_share is not None and far_share > _FAR:
        far = round(far_share * stated.size)
        if binom.sf(far - 1, stated.size, chance) < _UNLIKELY:
            return f"{OUTSIDE}: {far_share:.0%} of the images are unlike any that the version was tested on"
    below = float((stated < scores.confidence.min()).mean())
    if below > _BELOW and binom.sf(round(below * stated.size) - 1, stated.size, chance) < _UNLIKELY:
        return f"{OUTSIDE}: {below:.0%} of the images have less confidence than any test image"
    return None


def _edges(confidence: Numbers) -> Numbers:
    """Between bins of about as many test images each, at least _BIN; equal values are never parted."""
    count = min(_BINS, confidence.size // _BIN)
    if count < 2:
        return np.empty(0)
    edges = np.unique(np.quantile(confidence, np.arange(1, count) / count))
    # An edge at an end of the values would leave a bin without a test image.
    return np.asarray(edges[(edges > confidence.min()) & (edges <= confidence.max())])


def _with_unseen(
    errors: Numbers, residuals: Numbers, scores: HeldOutScores, window: int, rng: np.random.Generator
) -> Numbers:
    """Errors as they are when half an image, wrong by a quarter of the possible Dice, is added to the test images.

    It adds v = lost² / (2 (n + 1)) to the variance s of the n residuals. Errors are sums of residuals, so they grow by
    sqrt(1 + v / s). Where residuals hardly differ (s near 0), in the test or in the bins that the window is in, that
    leaves them too small: their variance is at least what v alone gives, v (1 / groups tested + 1 / images now).
    """
    stated = float(scores.confidence.mean())
    lost = _LOST * max(stated, 1 - stated)
    added, seen = lost**2 / (2 * (residuals.size + 1)), float(residuals.var())
    wider = errors * math.sqrt(1 + added / seen) if seen > 0 else errors
    units = len({group for group in scores.groups if group is not None}) + scores.groups.count(None)
    least = added * (1 / units + 1 / window)
    missing = least - float(wider.var())
    return wider + rng.normal(0, math.sqrt(missing), wider.size) if missing > 0 else wider


def _calibration_errors(
    residuals: Numbers,
    bins: NDArray[np.int64],
    weights: Numbers,
    groups: tuple[str | None, ...],
    rng: np.random.Generator,
) -> Numbers:
    """(_DRAWS,): how far the weighted mean residual may lie from the truth, by drawing groups of test images."""
    keys = [("alone", place) if group is None else ("in", group) for place, group in enumerate(groups)]
    names = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    codes = np.array([names[key] for key in keys])
    size = len(names)
    counts, sums = np.zeros((size, weights.size)), np.zeros((size, weights.size))
    np.add.at(counts, (codes, bins), 1)
    np.add.at(sums, (codes, bins), residuals)
    times = rng.multinomial(size, np.full(size, 1 / size), _DRAWS)
    totals = times @ counts
    gaps = np.where(totals > 0, times @ sums / np.maximum(totals, 1) - sums.sum(axis=0) / counts.sum(axis=0), 0.0)
    return np.asarray(-math.sqrt(size / max(size - 1, 1)) * (gaps @ weights))


def _sampling_errors(parts: list[Numbers], counts: NDArray[np.int64], rng: np.random.Generator) -> Numbers:
    """(_DRAWS,): how far the mean residual of `counts` images lies from that of all images like them."""
    total = np.zeros(_DRAWS)
    for part, count in zip(parts, counts, strict=True):
        if count == 0:
            continue
        spread = math.sqrt(part.size / max(part.size - 1, 1))
        if count <= _EXACT:
            sums = rng.choice(part, (_DRAWS, int(count))).sum(axis=1) - count * part.mean()
        else:
            sums = rng.normal(0, math.sqrt(count) * float(part.std()), _DRAWS)
        total += spread * sums
    return np.asarray(total / counts.sum())
