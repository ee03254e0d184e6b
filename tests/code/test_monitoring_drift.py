"""The statistics of drift, without Evidently; that its p-values are scipy's is tested with the report."""

import numpy as np
import pytest
from scipy.stats import binom, ks_2samp

from monitoring.drift import Comparison, Drift, Floats, effect, judge, split_comparable, threshold


def ks(comparisons: list[Comparison]) -> dict[str, float]:
    return {c.column: float(ks_2samp(c.reference, c.live).pvalue) for c in comparisons}


def verdict(*pairs: tuple[Floats, Floats], alpha: float = 0.01, min_effect: float = 0.1) -> Drift:
    comparisons = [Comparison(f"c{place}", "input", *pair) for place, pair in enumerate(pairs)]
    usable, left_out = split_comparable(comparisons, min_live=20, min_reference=10)
    assert not left_out
    return judge(usable, ks(usable), alpha, min_effect)


def rows(seed: int, count: int, shift: float = 0.0) -> Floats:
    return np.random.default_rng(seed).normal(shift, 1, count)


def correlated(rng: np.random.Generator, count: int, columns: int = 12) -> Floats:
    """(count, columns): dependent, skewed, and some with ties, as descriptors are."""
    common = rng.normal(size=(count, 1))
    values = 0.7 * common + rng.normal(size=(count, columns))
    values[:, 3] = np.exp(values[:, 3])
    values[:, 4] = np.round(values[:, 4])
    values[:, 5] = 256.0
    values[:, 6] = values[:, 7] * 2
    return values


def test_windows_without_drift_raise_alarms_at_the_stated_rate_at_most() -> None:
    rng = np.random.default_rng(7)
    windows, alpha = 400, 0.01
    alarms = 0
    for _ in range(windows):
        reference, live = correlated(rng, 270), correlated(rng, int(rng.integers(20, 150)))
        drift = verdict(*zip(reference.T, live.T, strict=True), alpha=alpha)
        alarms += drift.verdict == "drift"
    assert alarms <= binom.ppf(0.9999, windows, alpha)


def test_a_shift_of_one_deviation_is_found_in_windows_of_a_hundred() -> None:
    rng = np.random.default_rng(8)
    found = 0
    for _ in range(50):
        reference, live = correlated(rng, 270), correlated(rng, 100)
        live[:, 2] += reference[:, 2].std()
        found += verdict(*zip(reference.T, live.T, strict=True)).columns[0].column == "c2"
    assert found >= 49


def test_what_moved_most_comes_first() -> None:
    drift = verdict(
        (rows(0, 300), rows(1, 200)),
        (rows(2, 300), rows(3, 200, shift=1)),
        (rows(4, 300), rows(5, 200, shift=-3)),
        (rows(6, 300), rows(7, 200, shift=50)),
        (rows(6, 300), rows(7, 200, shift=90)),
    )
    assert [c.column for c in drift.columns] == ["c4", "c3", "c2", "c1", "c0"]
    assert [c.moved for c in drift.columns] == [True, True, True, True, False]
    assert drift.share_drifted == pytest.approx(0.8)
    assert drift.columns[2].shift == pytest.approx(-3, abs=0.3)


def test_a_trifle_is_no_drift_however_many_rows_show_it() -> None:
    reference, live = rows(0, 10_000), rows(1, 10_000, shift=0.1)
    assert ks_2samp(reference, live).pvalue < 1e-6
    assert verdict((reference, live)).verdict == "no drift"
    assert verdict((reference, live), min_effect=0.0).verdict == "drift"


def test_the_more_descriptors_the_stricter_each() -> None:
    pair = (rows(0, 200), rows(1, 100, shift=0.42))
    assert 0.0005 < ks_2samp(*pair).pvalue < 0.01
    assert verdict(pair).verdict == "drift"
    assert verdict(pair, *((rows(s, 200), rows(s + 50, 100)) for s in range(2, 23))).verdict == "no drift"
    assert threshold(0.01, 20) == pytest.approx(0.0005)


def test_a_constant_descriptor_that_stays_is_no_drift() -> None:
    drift = verdict((np.full(300, 0.1), np.full(50, 0.1)))
    assert drift.verdict == "no drift"
    assert drift.columns[0].shift is None


def test_a_constant_descriptor_that_changes_is_drift() -> None:
    drift = verdict((np.full(300, 256.0), np.full(50, 320.0)), (rows(0, 300), rows(1, 50)))
    assert drift.verdict == "drift"
    assert (drift.columns[0].column, drift.columns[0].effect, drift.columns[0].shift) == ("c0", 1.0, None)


def test_a_descriptor_that_becomes_constant_is_drift() -> None:
    assert verdict((rows(0, 300), np.zeros(50))).verdict == "drift"


def test_descriptors_without_enough_values_are_left_out_with_the_reason() -> None:
    empty, gappy = np.full(100, np.nan), rows(0, 100)
    gappy[5:] = np.inf
    usable, left_out = split_comparable(
        [
            Comparison("full", "input", rows(0, 100), rows(1, 100)),
            Comparison("no reference", "prediction", empty, rows(1, 100)),
            Comparison("no live", "prediction", rows(0, 100), empty),
            Comparison("gaps", "input", gappy, rows(1, 100)),
        ],
        min_live=20,
        min_reference=10,
    )
    assert [c.column for c in usable] == ["full"]
    assert {left.column: left.reason for left in left_out} == {
        "no reference": "the reference holds 0 values, 10 are needed",
        "no live": "the window holds 0 values, 20 are needed",
        "gaps": "the reference holds 5 values, 10 are needed",
    }


def test_gaps_are_not_values() -> None:
    live = rows(1, 100)
    live[::2] = np.nan
    (usable,), _ = split_comparable([Comparison("c", "input", rows(0, 100), live)], 20, 10)
    assert usable.live.size == 50


def test_the_effect_is_the_kolmogorov_smirnov_statistic_also_with_ties() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        a, b = rng.integers(0, 6, 90).astype(float), rng.integers(0, 7, 41).astype(float)
        assert effect(a, b) == pytest.approx(ks_2samp(a, b).statistic, abs=1e-12)
