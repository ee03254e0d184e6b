"""Largest gap between two cumulative distributions, of each of several columns: the Kolmogorov–Smirnov statistic.

gaps = Gaps(pool)                # (N, D)
gaps(live)                       # (B,) the largest over the columns
gaps.each(live[None])[0]         # (D,)
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from monitoring.statistics.relabelling import Floats, Labels

Singles = NDArray[np.float32]
_AT_A_TIME: Final = 64


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
        return np.concatenate([gaps.max(axis=1) for gaps in self._blocks(live)])

    def each(self, live: Labels) -> Floats:
        """(B, D): the gap of every column."""
        return np.concatenate(list(self._blocks(live)))

    def _blocks(self, live: Labels) -> Iterator[Floats]:
        """The gaps of a few divisions after the other: what is worked on stays in the processor's cache."""
        for begun in range(0, len(live), _AT_A_TIME):
            block = live[begun : begun + _AT_A_TIME]
            count = block.sum(axis=1, dtype=np.float32)[:, None]
            of_live = 1 / count + 1 / (block.shape[1] - count)
            of_all = 1 / (block.shape[1] - count)
            columns = range(len(self._orders))
            yield np.stack([self._column(block, column, of_live, of_all) for column in columns], axis=1)

    def _column(self, live: Labels, column: int, of_live: Singles, of_all: Singles) -> Floats:
        ends: NDArray[np.int64] = self._ends[column]
        if ends.size == 1:  # all values are equal
            return np.zeros(len(live))
        difference = np.cumsum(live[:, self._orders[column]], axis=1, dtype=np.float32)
        if ends.size < difference.shape[1]:
            difference = difference[:, ends]
        difference *= of_live
        difference -= (ends + 1).astype(np.float32) * of_all
        largest: Floats = np.maximum(difference.max(axis=1), -difference.min(axis=1)).astype(np.float64)
        return largest
