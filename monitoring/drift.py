"""Whether two sets of descriptors come from the same kind of image: pure statistics.

    pairs = [Comparison("brightness", "input", train["brightness"], live["brightness"])]
    usable, left_out = split_comparable(pairs, min_live=20, min_reference=10)
    drift = judge(usable, run_evidently(usable, …), alpha=0.01, min_effect=0.1)
    drift.verdict, drift.columns[0].column

Each descriptor is compared by the two-sample Kolmogorov–Smirnov test, which asks for no distribution and is
conservative where values tie, as widths and heights do. A descriptor has moved when

- p ≤ alpha / (number of descriptors compared) (Bonferroni, which holds under any dependence between them,
  and descriptors do depend on each other): among windows of independent images that are like the reference,
  at most a share alpha raises an alarm; and
- the statistic itself, the largest gap between the two cumulative distributions, is at least `min_effect`: a
  window of a million rows makes any trifle significant.

The test takes rows for independent. Frames of one video, or one image sent a hundred times, are not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["no drift", "drift", "too few rows"]
Side = Literal["input", "prediction"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """One descriptor on both sides.

    Attributes:
        side: "input" when it describes the image, "prediction" when it describes the mask.
        reference: (R,) values of the version's reference images.
        live: (L,) values in the window. Both may hold NaN, which stands for no value.
    """

    column: str
    side: Side
    reference: Floats
    live: Floats

    def finite(self) -> "Comparison":
        """The same without what is not a number."""
        return Comparison(self.column, self.side, _finite(self.reference), _finite(self.live))


@dataclass(frozen=True)
class LeftOut:
    """A descriptor that could not be compared, and why."""

    column: str
    reason: str


@dataclass(frozen=True)
class ColumnDrift:
    """How far one descriptor has moved.

    Attributes:
        p_value: of the two-sample Kolmogorov–Smirnov test.
        effect: its statistic, 0 (same distribution) to 1 (no overlap).
        shift: (live mean − reference mean) / reference standard deviation; None for a constant reference.
        reference_mean, live_mean, reference_std: in the descriptor's own unit.
        reference_rows, live_rows: values compared.
    """

    column: str
    side: Side
    p_value: float
    effect: float
    shift: float | None
    reference_mean: float
    live_mean: float
    reference_std: float
    reference_rows: int
    live_rows: int
    moved: bool


@dataclass(frozen=True)
class Drift:
    """The verdict on a window; `columns` is ranked, what moved most comes first."""

    verdict: Verdict
    alpha: float
    min_effect: float
    threshold: float
    columns: tuple[ColumnDrift, ...]

    @property
    def moved(self) -> tuple[ColumnDrift, ...]:
        return tuple(column for column in self.columns if column.moved)

    @property
    def share_drifted(self) -> float:
        return len(self.moved) / len(self.columns) if self.columns else 0.0


def _finite(values: Floats) -> Floats:
    values = np.asarray(values, dtype=np.float64)
    return values[np.isfinite(values)]


def split_comparable(
    comparisons: Iterable[Comparison], min_live: int, min_reference: int
) -> tuple[list[Comparison], list[LeftOut]]:
    """Part what can be compared from what cannot.

    Args:
        comparisons: descriptors, with their gaps.
        min_live, min_reference: fewest values that the window and the reference must hold.

    Returns:
        the comparable ones without gaps, and the others with the reason.
    """
    usable, left_out = [], []
    for comparison in (comparison.finite() for comparison in comparisons):
        sides = (("reference", comparison.reference, min_reference), ("window", comparison.live, min_live))
        short = [
            f"the {name} holds {values.size} values, {needed} are needed"
            for name, values, needed in sides
            if values.size < needed
        ]
        if short:
            left_out.append(LeftOut(comparison.column, " and ".join(short)))
        else:
            usable.append(comparison)
    return usable, left_out


def threshold(alpha: float, compared: int) -> float:
    """The p-value below which one of several descriptors has moved (Bonferroni)."""
    return alpha / max(compared, 1)


def effect(reference: Floats, live: Floats) -> float:
    """The largest gap between the two empirical distribution functions (Kolmogorov–Smirnov statistic)."""
    reference, live = np.sort(reference), np.sort(live)
    at = np.concatenate([reference, live])
    below_reference = np.searchsorted(reference, at, side="right") / reference.size
    below_live = np.searchsorted(live, at, side="right") / live.size
    return float(np.abs(below_reference - below_live).max())


def judge(comparisons: Sequence[Comparison], p_values: Mapping[str, float], alpha: float, min_effect: float) -> Drift:
    """Decide whether the window has drifted, and rank the descriptors by how far they moved.

    Args:
        comparisons: descriptors without gaps, as `split_comparable` gives them.
        p_values: one a descriptor.
        alpha: share of windows without drift that may raise an alarm.
        min_effect: smallest effect worth an alarm, 0 to 1.
    """
    limit = threshold(alpha, len(comparisons))
    columns = [_measure(c, p_values[c.column], limit, min_effect) for c in comparisons]
    # Effects saturate at 1 where nothing overlaps: the distance in standard deviations tells those apart.
    columns.sort(key=lambda c: (c.moved, c.effect, _distance(c)), reverse=True)
    verdict: Verdict = "drift" if any(column.moved for column in columns) else "no drift"
    return Drift(verdict, alpha, min_effect, limit, tuple(columns))


def _measure(comparison: Comparison, p_value: float, limit: float, min_effect: float) -> ColumnDrift:
    reference, live = comparison.reference, comparison.live
    gap = effect(reference, live)
    mean, live_mean = float(reference.mean()), float(live.mean())
    # The standard deviation of equal floats is rounding noise, not always 0.
    std = 0.0 if np.ptp(reference) == 0 else float(reference.std())
    return ColumnDrift(
        column=comparison.column,
        side=comparison.side,
        p_value=p_value,
        effect=gap,
        shift=(live_mean - mean) / std if std > 0 else None,
        reference_mean=mean,
        live_mean=live_mean,
        reference_std=std,
        reference_rows=reference.size,
        live_rows=live.size,
        moved=p_value <= limit and gap >= min_effect,
    )


def _distance(column: ColumnDrift) -> float:
    if column.shift is not None:
        return abs(column.shift)
    return 0.0 if column.live_mean == column.reference_mean else np.inf
