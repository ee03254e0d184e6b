"""One view of a part of a window, whether its rows are at hand or only their sums.

part = Rows(frame)                  # or monitoring.summary.Summary
part["brightness"].mean, part["brightness"].below(np.array([80.0])), part["brightness"].gap(reference)
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import pandas as pd

from monitoring.statistics.relabelling import Floats
from monitoring.summary import Gap

_ALPHA: Final = 0.05
_PLACES: Final = 128


class Distribution(Protocol):
    """Values of one column."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def mean(self) -> float:
        """Their mean; nan where there is none."""

    def below(self, places: Floats) -> Floats:
        """Shares of them that are not above some values, (P,) both; there is at least one."""

    def grid(self, reference: Floats) -> tuple[Floats, Floats]:
        """Where to look at both distributions, and how much each place counts, (P,) both; reference: (R,), finite."""

    def gap(self, reference: Floats) -> Gap:
        """How far they are from a reference, (R,), and where."""


class Part(Protocol):
    """Some rows of a window, by column."""

    @property
    def rows(self) -> int:
        """How many there are."""

    def __getitem__(self, name: str) -> Distribution: ...


@dataclass(frozen=True, eq=False)
class Values:
    """Of rows that are at hand; values: (N,), finite and sorted."""

    values: Floats

    @property
    def count(self) -> int:
        return self.values.size

    @property
    def mean(self) -> float:
        return float(self.values.mean()) if self.count else np.nan

    def below(self, places: Floats) -> Floats:
        shares: Floats = np.searchsorted(self.values, places, side="right") / self.count
        return shares

    def grid(self, reference: Floats) -> tuple[Floats, Floats]:
        shares = (np.arange(_PLACES) + 0.5) / _PLACES
        both = [np.quantile(each, shares, method="inverted_cdf") for each in (reference, self.values)]
        places = np.concatenate(both)
        return places, np.ones_like(places)

    def gap(self, reference: Floats) -> Gap:
        known = np.sort(reference[np.isfinite(reference)])
        if not (known.size and self.count):
            return Gap(np.nan, np.nan, np.nan)
        places = np.concatenate([known, self.values])
        theirs, ours = (np.searchsorted(each, places, side="right") / each.size for each in (known, self.values))
        apart = np.abs(ours - theirs)
        most = int(apart.argmax())
        return Gap(float(apart[most]), float(apart[most]), float(places[most]))


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that are at hand: a float column a descriptor."""

    frame: pd.DataFrame

    @property
    def rows(self) -> int:
        return len(self.frame)

    def __getitem__(self, name: str) -> Values:
        values = self.frame[name].to_numpy("float64")
        return Values(np.sort(values[np.isfinite(values)]))


def by_chance(count: int, others: int, looks: int) -> float:
    """The gap that two samples of one distribution exceed in 5 % of cases at most, in any of so many looks.

    Smirnov (1939), with Bonferroni's correction; a little too large for small samples.
    """
    return float(min(1.0, np.sqrt(-np.log(_ALPHA / looks / 2) / 2 * (1 / count + 1 / others))))
