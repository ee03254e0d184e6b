"""The area under the ROC curve of an image whose probabilities come tile by tile, in bounded memory.

    ranking = Ranking(classes=1, pixels=height * width)
    ranking.add(probabilities, truth)                   # (C, h, w) and (h, w), any number of times
    ranking.auc()

Up to 2^24 probabilities (64 MiB) are kept and ranked exactly. Beyond, they are counted in 258,049 bins that are as fine
beside 0 and 1 as in between: a bin's width is 0.1 % of the smaller of p and 1 - p. Pixels of one bin count as ties, so
the area is off by at most half the share of pairs (foreground, background) that fall into one bin.
"""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

EXACT_VALUES: Final = 1 << 24

# Floats from 0 to 1/2 are in the order of their bits; 10 of the 23 bits of the fraction are kept.
_HALF_BITS: Final = int(np.float32(0.5).view(np.uint32))
_SHIFT: Final = 13
_BINS: Final = (2 * _HALF_BITS >> _SHIFT) + 1
_PART: Final = 1 << 22


class Ranking:
    """Pixels of one image, to be ranked by probability; foreground classes are taken one against the rest.

    Args:
        classes: rows of the probabilities; 1 is binary.
        pixels: of the whole image.
    """

    def __init__(self, classes: int, pixels: int) -> None:
        self._binary = classes == 1
        # Of several classes the first is the background, which is ranked for nobody.
        self._rows = 1 if self._binary else classes - 1
        self._filled = 0
        self._exact = self._rows * pixels <= EXACT_VALUES
        if self._exact:
            self._values = np.empty((self._rows, pixels), np.float32)
            self._truth = np.empty(pixels, np.uint8)
        else:
            self._counts = np.zeros((self._rows, 2, _BINS), np.int64)

    def add(self, probability: NDArray[np.generic], truth: NDArray[np.generic]) -> None:
        """Add a part of the image.

        Args:
            probability: (C, h, w) float 0 to 1, or uint8 round(255 p).
            truth: (h, w) class index; for binary, non-zero is foreground.
        """
        scale = 255 if probability.dtype == np.uint8 else 1
        rows = probability if self._binary else probability[1:]
        start, self._filled = self._filled, self._filled + truth.size
        if self._exact:
            self._values[:, start : self._filled] = rows.reshape(self._rows, -1)
            self._truth[start : self._filled] = truth.ravel()
            return
        classes = truth.ravel()
        for row, values in enumerate(rows.reshape(self._rows, -1)):
            for part in range(0, truth.size, _PART):
                bins = _bins(values[part : part + _PART].astype(np.float32) / np.float32(scale))
                positive = self._positive(classes[part : part + _PART], row)
                self._counts[row, 1] += np.bincount(bins[positive], minlength=_BINS)
                self._counts[row, 0] += np.bincount(bins[~positive], minlength=_BINS)

    def auc(self) -> float:
        """0 to 1, ties counted half; for more classes the mean of those that have a value; nan where none has."""
        if self._exact:
            truth, values = self._truth[: self._filled], self._values[:, : self._filled]
            areas = [_exact_area(values[row], self._positive(truth, row)) for row in range(self._rows)]
        else:
            areas = [_area_of_counts(negative, positive) for negative, positive in self._counts]
        known = [area for area in areas if not math.isnan(area)]
        return float(np.mean(known)) if known else math.nan

    def _positive(self, classes: NDArray[np.generic], row: int) -> NDArray[np.bool_]:
        return np.asarray(classes != 0 if self._binary else classes == row + 1)


def _bins(probability: NDArray[np.float32]) -> NDArray[np.int64]:
    """The bin of each probability; bins are in the order of probabilities."""
    clipped = np.clip(probability, 0, 1)
    low = clipped < np.float32(0.5)
    # 1 - p is exact for p of 1/2 or more, and as fine beside 1 as p is beside 0.
    bits = np.where(low, clipped, np.float32(1) - clipped).view(np.uint32).astype(np.int64)
    return np.asarray(np.where(low, bits, 2 * _HALF_BITS - bits) >> _SHIFT)


def _exact_area(values: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """Pairs in the right order, ties counted half, of all pairs (Mann & Whitney 1947)."""
    higher, lower = np.sort(values[positive]), np.sort(values[~positive])
    if higher.size == 0 or lower.size == 0:
        return math.nan
    twice = 0
    for start in range(0, higher.size, _PART):
        part = higher[start : start + _PART]
        twice += int(np.searchsorted(lower, part, "left").sum()) + int(np.searchsorted(lower, part, "right").sum())
    return twice / (2 * higher.size * lower.size)


def _area_of_counts(negative: NDArray[np.integer[Any]], positive: NDArray[np.integer[Any]]) -> float:
    pairs = float(negative.sum()) * float(positive.sum())
    if pairs == 0:
        return math.nan
    below = np.cumsum(negative) - negative
    return float(positive.astype(np.float64) @ (below + negative / 2)) / pairs
