"""A quantile of values of which only counts in bins are known, and between which bounds the true one lies.

quantile(EDGES["latency_ms"], counts, minimum, maximum, 0.95).value
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from records.sketch_bins import Floats


@dataclass(frozen=True)
class Estimate:
    """A value, and between which bounds the true one lies."""

    value: float
    low: float
    high: float


def quantile(edges: Floats, counts: NDArray[np.int64], minimum: float, maximum: float, share: float) -> Estimate:
    """The value that so large a share of the values does not exceed; nan where there is no value.

    Within their bin values are taken to be spread evenly; the bounds are the bin's, or the smallest and the largest
    value.

    Args:
        edges: (E,) of the bins; counts: (E + 1,), see `records.sketch_bins`.
        minimum, maximum: of the values.
        share: 0 to 1.
    """
    upto = np.cumsum(counts)
    count = int(upto[-1])
    if not count:
        return Estimate(math.nan, math.nan, math.nan)
    rank = min(max(math.ceil(share * count), 1), count)
    place = int(np.searchsorted(upto, rank))
    low = max(minimum, float(edges[place - 1]) if place else -math.inf)
    high = min(maximum, float(edges[place]) if place < len(edges) else math.inf)
    within = (rank - (upto[place] - counts[place])) / counts[place]
    return Estimate(max(high - (1 - float(within)) * (high - low), low), low, high)
