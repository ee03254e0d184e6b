"""Slow drift that no single window shows: cumulative sums over windows in their order, against other orders.

    found = trend_test(means, rng=np.random.default_rng(0))     # (W, D): a row a window, oldest first
    found.p_value, found.columns_p, found.change

The cumulative sum of what each window's mean differs from the mean of all (Page 1954, Continuous inspection schemes)
leaves 0 where the level changes, at once or bit by bit. Without drift any order of the windows is as likely, so the
largest excursion over all descriptors is compared with those of the windows in random order. The windows are compared
with each other, not with the reference: its error, and a lasting difference from it, which the windows' own test finds,
are no trend. What makes windows differ without a trend, such as days of the week, is in the windows and so in the test;
windows that resemble the one before raise more alarms than stated.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from monitoring.statistics.relabelling import Floats

PERMUTATIONS: Final = 4_999
FEWEST_WINDOWS: Final = 8
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class Trend:
    """What the order of windows tells.

    Attributes:
        p_value: of all columns together.
        columns_p: (D,) of each column, adjusted for there being several.
        change: (D,) mean of the last third of the windows minus that of the first third, in the columns' units.
        turned: (D,) the window after which the excursion was largest, from 0.
    """

    p_value: float
    columns_p: Floats
    change: Floats
    turned: tuple[int, ...]


def trend_test(means: Floats, rng: np.random.Generator, permutations: int = PERMUTATIONS) -> Trend:
    """Test whether windows come in no particular order.

    Args:
        means: (W, D) finite, at least `FEWEST_WINDOWS` windows of about as many images, oldest first.
        rng: of the permutations.
        permutations: how many.
    """
    spread = means.std(axis=0)
    still = spread <= 1e-9 * (1 + np.abs(means).max(axis=0))  # the rounding of equal values
    scaled = np.where(still, 0, (means - means.mean(axis=0)) / np.where(still, 1, spread))
    sums = np.abs(np.cumsum(scaled, axis=0))
    excursions = sums.max(axis=0)
    orders = rng.permuted(np.tile(np.arange(len(means)), (permutations, 1)), axis=1)
    largest = np.array([np.abs(np.cumsum(scaled[order], axis=0)).max() for order in orders])
    at_least = (largest[None] >= excursions[:, None] - _ROUNDING).sum(axis=1)
    columns_p = (at_least + 1) / (permutations + 1)
    third = max(1, len(means) // 3)
    return Trend(
        p_value=float(columns_p.min()),
        columns_p=columns_p,
        change=means[-third:].mean(axis=0) - means[:third].mean(axis=0),
        turned=tuple(int(place) for place in sums.argmax(axis=0)),
    )
