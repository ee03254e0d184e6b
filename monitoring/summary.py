"""What a sketch says of a column: exact count, mean, spread and range; quantiles and distances within stated bounds.

column = Summary(sketch)["brightness"]
column.quantile(0.5)                # Estimate(value=87.3, low=86.0, high=88.0)
column.gap(reference)               # Gap(effect=0.41, most=0.43, at=92.0)
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from records.sketch import Sketch
from records.sketch_bins import COLUMNS, EDGES
from records.sketch_quantiles import Estimate, quantile

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Gap:
    """How far two distributions are apart.

    Attributes:
        effect: largest distance of the distribution functions at the edges of the bins, 0 to 1: exact there, and never
            more than the Kolmogorov-Smirnov statistic.
        most: what that statistic is at most, whatever lies within the bins.
        at: the edge where they are `effect` apart.
    """

    effect: float
    most: float
    at: float


@dataclass(frozen=True, eq=False)
class ColumnSummary:
    """One column of a window.

    Attributes:
        count: values; missing: rows without one.
        mean, std: nan where there is no value; the standard deviation is that of all values, not of a sample.
        minimum, maximum: nan where there is no value.
        edges: (E,) of the bins; counts: (E + 1,), see `records.sketch_bins`.
    """

    name: str
    count: int
    missing: int
    mean: float
    std: float
    minimum: float
    maximum: float
    edges: Floats
    counts: NDArray[np.int64]

    def histogram(self) -> tuple[Floats, NDArray[np.int64]]:
        """(B + 1,) edges and (B,) counts, from the smallest to the largest value, without the empty ends."""
        used = np.flatnonzero(self.counts)
        if not used.size:
            return np.empty(0), np.empty(0, np.int64)
        first, last = int(used[0]), int(used[-1])
        inner = self.edges[first:last]
        return np.concatenate([[self.minimum], inner, [self.maximum]]), self.counts[first : last + 1]

    def quantile(self, share: float) -> Estimate:
        """The value that so large a share of the values does not exceed, 0 to 1; nan where there is no value.

        Within their bin values are taken to be spread evenly; the bounds are the bin's, or the smallest and the largest
        value.
        """
        return quantile(self.edges, self.counts, self.minimum, self.maximum, share)

    def below(self, places: Floats) -> Floats:
        """Shares of the values that are not above some edges, exact; between two edges that of the lower; (P,) both.

        There is at least one value.
        """
        upto = np.concatenate([[0], np.cumsum(self.counts)]) / self.count
        shares: Floats = upto[np.searchsorted(self.edges, places, side="right")]
        return shares

    def grid(self, reference: Floats) -> tuple[Floats, Floats]:
        """The edges, and what lies in the bins below them of this and of a reference, in equal shares; (E,) both."""
        theirs = np.bincount(np.searchsorted(self.edges, reference), minlength=self.counts.size) / reference.size
        return self.edges, (self.counts / self.count + theirs)[:-1]

    def gap(self, reference: Floats) -> Gap:
        """How far the window is from a reference; reference: (R,), what is not finite does not count.

        Where either has no value the gap is nan.
        """
        known = np.sort(reference[np.isfinite(reference)])
        if not known.size or not self.count:
            return Gap(math.nan, math.nan, math.nan)
        ours = np.concatenate([[0], np.cumsum(self.counts)]) / self.count
        theirs = np.concatenate([[0], np.searchsorted(known, self.edges, side="right"), [known.size]]) / known.size
        apart = np.abs(ours - theirs)[1:-1]
        at = int(apart.argmax())
        # Within a bin one may rise at its beginning and the other at its end.
        most = max(float((ours[1:] - theirs[:-1]).max()), float((theirs[1:] - ours[:-1]).max()))
        return Gap(float(apart[at]), min(most, 1.0), float(self.edges[at]))


@dataclass(frozen=True, eq=False)
class Summary:
    """Rows of a window, summed up."""

    sketch: Sketch

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.sketch.rows

    def __getitem__(self, name: str) -> ColumnSummary:
        place = COLUMNS.index(name)
        sketch = self.sketch
        count = int(sketch.values[place])
        numbers = (sketch.mean, np.sqrt(sketch.squares / max(count, 1)), sketch.minimum, sketch.maximum)
        mean, std, minimum, maximum = (float(of[place]) if count else math.nan for of in numbers)
        missing = sketch.rows - count
        return ColumnSummary(name, count, missing, mean, std, minimum, maximum, EDGES[name], sketch.counts[place])
