"""Largest gap between two cumulative distributions, of each of several columns: the Kolmogorov–Smirnov statistic.

gaps = Gaps(pool)                # (N, D)
gaps(live)                       # (B,) the largest over the columns
gaps.each(live[None])[0]         # (D,)
"""

import numpy as np
from numpy.typing import NDArray

from monitoring.statistics.relabelling import Floats, Labels


class Gaps:
    """The statistic over a fixed pool of values.

    Args:
        pool: (N, D), all images of both sides, finite.
        name: of the statistic.
    """

    def __init__(self, pool: Floats, name: str = "gaps") -> None:
        self.name = name
        self._orders = np.argsort(pool, axis=0, kind="stable").T
        ordered = np.take_along_axis(pool, self._orders.T, axis=0).T
        # Where equal values end: between them the distributions are not defined.
        self._ends = [np.flatnonzero(np.append(row[1:] != row[:-1], True)) for row in ordered]

    def __call__(self, live: Labels) -> Floats:
        largest = np.zeros(len(live))
        for column in range(len(self._orders)):
            np.maximum(largest, self._column(live, column), out=largest)
        return largest

    def each(self, live: Labels) -> Floats:
        """(B, D): the gap of every column."""
        return np.stack([self._column(live, column) for column in range(len(self._orders))], axis=1)

    def _column(self, live: Labels, column: int) -> Floats:
        ends: NDArray[np.int64] = self._ends[column]
        if ends.size == 1:  # all values are equal
            return np.zeros(len(live))
        below = np.cumsum(live[:, self._orders[column]], axis=1, dtype=np.float32)
        count = below[:, -1:]
        rest = live.shape[1] - count
        difference = below[:, ends] * (1 / count + 1 / rest) - (ends + 1).astype(np.float32) / rest
        largest: Floats = np.abs(difference).max(axis=1).astype(np.float64)
        return largest
