"""Judge whether a window has drifted: pure statistics, with a known false-alarm rate.

drift = judge([Family("input", columns, train, live)], Rule(alpha=0.01))

What is asked, and when the answer is an alarm, is in `monitoring.drift`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from monitoring.drift import FEW_GROUPS, ColumnDrift, Drift, Family, LeftOut, Rule, TestResult, Verdict
from monitoring.quality import Finding
from monitoring.statistics.energy import Energy
from monitoring.statistics.gaps import Gaps
from monitoring.statistics.relabelling import STAGES, Floats, Statistic, permutation_test
from monitoring.statistics.shift import Shift
from monitoring.statistics.strangers import Strangers

# More images a side do not make a test much better where the other side has some hundred.
TESTED_LIVE: Final = 1_000
TESTED_REFERENCE: Final = 2_000
FAR: Final = 0.99
# What is left of alpha when a window is so large that only the reference's own error counts.
_LARGEST_WINDOW: Final = 0.1
_TIES: Final = 4


def level(alpha: float, families: int, live: int, reference: int) -> float:
    """The p-value at or below which a family's answer is an alarm.

    All windows are compared with one reference, so its error is in all of them: of windows much larger than it either
    none raises an alarm or all do. To keep the rate of every reference near alpha, and not only the mean over
    references, the level falls with the part of the error that is the reference's, n / (n + R), to a tenth.

    Args:
        alpha: of the window.
        families: that share it.
        live, reference: images, or clusters, on the two sides.
    """
    shared = live / (live + reference)
    return float(alpha / families * _LARGEST_WINDOW**shared)


def answerable(families: Sequence[Family], rule: Rule) -> tuple[list[Family], list[LeftOut]]:
    """Those families that could raise an alarm at all, and of the others the columns, with the reason.

    Of a reference of few groups there are few ways to divide the images, and no p-value is below one in so many: the
    answer would be "no drift" whatever came.
    """
    able, left_out = [], []
    for family in families:
        live, reference = _units(family)
        limit = level(rule.alpha, len(families), min(live, TESTED_LIVE), reference)
        if _log_divisions(min(live, TESTED_LIVE), reference) >= -math.log(limit):
            able.append(family)
            continue
        groups = f"{reference} group{'s' * (reference != 1)} (patients, slides, scenes)"
        reason = f"{FEW_GROUPS} {groups}: too few to tell any window of {live} images from it"
        left_out += [LeftOut(column, reason) for column in family.columns]
    return able, left_out


def _log_divisions(live: int, reference: int) -> float:
    """The logarithm of the number of ways to divide clusters into so many and so many."""
    return math.lgamma(live + reference + 1) - math.lgamma(live + 1) - math.lgamma(reference + 1)


def judge(families: Sequence[Family], rule: Rule, quality: Sequence[Finding] = ()) -> Drift:
    """Decide whether a window has drifted, and rank the descriptors by how far they moved."""
    columns: list[ColumnDrift] = []
    tests: list[TestResult] = []
    for family in families:
        of_columns, of_family = _judge_family(family, rule, len(families))
        columns += of_columns
        tests += of_family
    # Effects saturate at 1 where nothing overlaps: the distance in standard deviations tells those apart.
    columns.sort(key=lambda column: (column.moved, column.effect, _distance(column)), reverse=True)
    alarm = any(test.alarm for test in tests) or any(finding.alarm for finding in quality)
    verdict: Verdict = "drift" if alarm else "no drift"
    return Drift(verdict, rule, tuple(columns), tuple(tests), tuple(quality))


def _judge_family(family: Family, rule: Rule, families: int) -> tuple[list[ColumnDrift], list[TestResult]]:
    rng = np.random.default_rng(rule.seed)
    small = sampled(family, rng)
    live = np.arange(len(small.reference) + len(small.live)) >= len(small.reference)
    pool = np.concatenate([small.reference, small.live])
    gaps, statistics = Gaps(pool), _statistics(small, pool)
    together = None if small.clusters is None else np.concatenate(small.clusters)
    limit = level(rule.alpha, families, *_units(small))
    # A p-value is never below one in so many; three statistics may tie there.
    enough = math.ceil(_TIES / limit)
    stages = [*STAGES[:-1], (max(STAGES[-1][0], enough), 0.0)]
    tested = permutation_test(live, list(statistics.values()), rng=rng, clusters=together, stages=stages)
    at_most = {name: float(value) for name, value in zip(family.columns, gaps.each(live[None])[0], strict=True)}
    columns = [
        _measure(family, place, tested.adjusted_p("gaps", at_most[name]), limit, rule)
        for place, name in enumerate(family.columns)
    ]
    effects = _effects(statistics, columns, live, small)
    results = []
    for name, effect in effects.items():
        p_value = tested.adjusted[name]
        least = rule.min_share if name == "strangers" else rule.min_effect
        alarm = any(column.moved for column in columns) if name == "gaps" else p_value <= limit and effect >= least
        results.append(TestResult(family.side, name, p_value, effect, limit, alarm))
    return columns, results


def _statistics(family: Family, pool: Floats) -> Mapping[str, Statistic]:
    chosen: list[Statistic] = [Gaps(pool)]
    if family.side == "input":
        chosen += [Shift(pool), Strangers(pool, len(family.reference))]
    if family.points is not None:
        chosen.append(Energy(np.concatenate(family.points)))
    return {statistic.name: statistic for statistic in chosen}


def _effects(
    statistics: Mapping[str, Any], columns: Sequence[ColumnDrift], live: NDArray[np.bool_], family: Family
) -> dict[str, float]:
    effects = {"gaps": max(column.effect for column in columns)}
    if "shift" in statistics:
        effects["shift"] = float(Gaps(statistics["shift"].along(live))(live[None])[0])
    if "strangers" in statistics:
        distances = statistics["strangers"].distances(live[None])[0]
        far = distances > np.quantile(distances[~live], FAR)
        effects["strangers"] = max(0.0, float(far[live].mean() - far[~live].mean()))
    if "energy" in statistics and family.points is not None:
        points = np.concatenate(family.points)
        centre = points[~live].mean(axis=0)
        along = (points - centre) @ (points[live].mean(axis=0) - centre)
        away = np.linalg.norm(points - centre, axis=1)
        effects["energy"] = float(Gaps(np.stack([along, away], axis=1))(live[None])[0])
    return effects


def sampled(family: Family, rng: np.random.Generator) -> Family:
    """The same with no more images a side than are tested."""

    def chosen(count: int, most: int) -> NDArray[np.int64]:
        return np.sort(rng.choice(count, most, replace=False)) if count > most else np.arange(count)

    of_reference = chosen(len(family.reference), TESTED_REFERENCE)
    of_live = chosen(len(family.live), TESTED_LIVE)

    def both(pair: tuple[Any, Any] | None) -> tuple[Any, Any] | None:
        return None if pair is None else (pair[0][of_reference], pair[1][of_live])

    return Family(
        family.side,
        family.columns,
        family.reference[of_reference],
        family.live[of_live],
        both(family.points),
        both(family.clusters),
        both(family.names),
    )


def _units(family: Family) -> tuple[int, int]:
    if family.clusters is None:
        return len(family.live), len(family.reference)
    reference, live = family.clusters
    return np.unique(live).size, np.unique(reference).size


def _measure(family: Family, place: int, p_value: float, limit: float, rule: Rule) -> ColumnDrift:
    reference, live = family.reference[:, place], family.live[:, place]
    gap = effect(reference, live)
    mean, live_mean = float(reference.mean()), float(live.mean())
    # The standard deviation of equal floats is rounding noise, not always 0.
    std = 0.0 if np.ptp(reference) == 0 else float(reference.std())
    return ColumnDrift(
        column=family.columns[place],
        side=family.side,
        p_value=p_value,
        effect=gap,
        shift=(live_mean - mean) / std if std > 0 else None,
        reference_mean=mean,
        live_mean=live_mean,
        reference_std=std,
        reference_rows=reference.size,
        live_rows=live.size,
        moved=p_value <= limit and gap >= rule.min_effect,
    )


def effect(reference: Floats, live: Floats) -> float:
    """The largest gap between the two empirical distribution functions (Kolmogorov–Smirnov statistic)."""
    reference, live = np.sort(reference), np.sort(live)
    at = np.concatenate([reference, live])
    below_reference = np.searchsorted(reference, at, side="right") / reference.size
    below_live = np.searchsorted(live, at, side="right") / live.size
    return float(np.abs(below_reference - below_live).max())


def _distance(column: ColumnDrift) -> float:
    if column.shift is not None:
        return abs(column.shift)
    return 0.0 if column.live_mean == column.reference_mean else np.inf
