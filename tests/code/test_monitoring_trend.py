"""Slow drift over windows: found though no window shows it, and not where windows come in no order."""

import numpy as np
import pytest
from scipy.stats import binom

from monitoring.statistics.relabelling import Floats
from monitoring.statistics.trend import Trend, trend_test


def trend(means: Floats, seed: int = 0) -> Trend:
    return trend_test(means, np.random.default_rng(seed), permutations=499)


def windows(rng: np.random.Generator, count: int = 28, columns: int = 6) -> Floats:
    """(count, columns): means that go together, one that stays, and days that differ from each other."""
    means = 0.7 * rng.normal(size=(count, 1)) + rng.normal(size=(count, columns))
    means[:, 2] = 0.1
    return means


def test_a_slow_change_is_found_and_named() -> None:
    rng = np.random.default_rng(1)
    means = windows(rng)
    means[:, 4] += np.linspace(0, 6, 28)
    found = trend(means)
    assert found.p_value <= 0.01
    assert [place for place, p in enumerate(found.columns_p) if p <= 0.01] == [4]
    assert found.change[4] == pytest.approx(6 * 2 / 3, abs=1)
    assert found.columns_p[2] == 1.0


def test_a_step_is_found_with_its_day() -> None:
    means = windows(np.random.default_rng(2))
    means[20:, 0] -= 4
    found = trend(means)
    assert found.columns_p[0] <= 0.01
    assert abs(found.turned[0] - 19) <= 1
    assert found.change[0] < 0


def test_windows_in_no_order_are_called_a_trend_at_the_stated_rate() -> None:
    rng = np.random.default_rng(3)
    series, alpha = 300, 0.1
    alarms = sum(trend(windows(rng), seed).p_value <= alpha for seed in range(series))
    assert binom.ppf(0.001, series, alpha) <= alarms <= binom.ppf(0.999, series, alpha)


def test_days_of_the_week_are_no_trend() -> None:
    rng = np.random.default_rng(4)
    weekend = np.arange(28) % 7 >= 5
    alarms = sum(trend(windows(rng) + 3 * weekend[:, None], seed).p_value <= 0.05 for seed in range(60))
    assert alarms <= binom.ppf(0.999, 60, 0.05)
