"""Intervals hold what they state, also of few images."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from resunet.errors import DataError
from resunet.intervals import (
    FEW,
    betting_interval,
    effective_number,
    mean_interval,
    weighted_interval,
)

Numbers = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Numbers]


def dices(rng: np.random.Generator, count: int) -> Numbers:
    """As Dice is distributed: near 1, and 8 % failures."""
    values = rng.beta(18, 1.6, count)
    failed = rng.random(count) < 0.08
    values[failed] = rng.beta(1, 2, int(failed.sum()))
    return values


def rarely_failed(rng: np.random.Generator, count: int) -> Numbers:
    """All alike but for 2 % total failures, of which many a sample holds none."""
    return np.where(rng.random(count) < 0.02, 0.0, rng.uniform(0.9, 0.96, count))


@pytest.mark.parametrize("draw", [dices, rarely_failed])
@pytest.mark.parametrize("count", [3, 10, FEW - 1])
def test_few_images_get_an_interval_that_holds_the_mean(draw: Draw, count: int) -> None:
    rng = np.random.default_rng(count)
    true = float(draw(rng, 1_000_000).mean())
    held = 0
    for _ in range(120):
        mean, low, high = mean_interval(draw(rng, count))
        held += low <= true <= high
        assert 0 <= low <= mean <= high <= 1
    assert held >= 114


def test_an_interval_of_equal_scores_does_not_collapse() -> None:
    assert mean_interval([0.9]) == (0.9, 0.0, 1.0)
    widths = []
    for count in (3, 10, 40):
        _, low, high = mean_interval([0.9] * count)
        widths.append(high - low)
        assert low < 0.9 < high or low < 0.9 == high
    assert widths == sorted(widths, reverse=True) and widths[-1] > 0.02


def test_the_same_image_twice_is_one_piece_of_evidence() -> None:
    values = list(dices(np.random.default_rng(0), FEW))
    mean, low, high = mean_interval(values)
    names = [str(place // 10) for place in range(FEW)]
    assert mean_interval(values, [None] * FEW) == (mean, low, high)
    same, wider_low, wider_high = mean_interval(values, names)
    assert same == pytest.approx(mean)
    assert wider_high - wider_low > 1.5 * (high - low)


def test_what_is_not_known_is_left_out() -> None:
    assert np.isnan(mean_interval([float("nan")])).all()
    assert np.isnan(weighted_interval([float("nan")], [0.5])).all()
    assert mean_interval([0.5, float("nan")])[0] == 0.5


def test_the_order_of_the_scores_does_not_decide() -> None:
    values = dices(np.random.default_rng(4), 12)
    one, other = betting_interval(values), betting_interval(values[::-1])
    assert one == pytest.approx(other, abs=0.03)


def test_unequal_chances_are_weighted_away() -> None:
    rng = np.random.default_rng(5)
    population = dices(rng, 400)
    # What looks bad is labelled far more often.
    chances = np.clip(0.05 + 0.6 * (1 - population) ** 2 * 4, 0.05, 1.0)
    means, held = [], 0
    for _ in range(100):
        drawn = rng.random(400) < chances
        mean, low, high = weighted_interval(population[drawn], chances[drawn])
        means.append(mean)
        held += low <= population.mean() <= high
    plain = [population[rng.random(400) < chances].mean() for _ in range(50)]
    assert np.mean(means) == pytest.approx(population.mean(), abs=0.006)
    assert np.mean(plain) < population.mean() - 0.1
    assert held >= 95


def two_days(rng: np.random.Generator, quiet: int, busy: int) -> tuple[float, Numbers, Numbers]:
    """The mean of two days' images, and labels: half of those of a bad quiet day, 2 % of those of a busy good one."""
    bad, good = dices(rng, 2 * quiet) * 0.6, dices(rng, 50 * busy)
    drawn = [rng.choice(bad, quiet, replace=False), rng.choice(good, busy, replace=False)]
    return float(np.concatenate([bad, good]).mean()), np.concatenate(drawn), np.repeat([0.5, 0.02], [quiet, busy])


@pytest.mark.parametrize(
    ("quiet", "busy", "widest"), [(5, 5, 0.75), (25, 5, 0.65), (50, 50, 0.2), (250, 50, 0.2), (150, 150, 0.07)]
)
def test_labels_of_days_with_other_rates_get_an_interval_that_holds_the_mean(
    quiet: int, busy: int, widest: float
) -> None:
    rng = np.random.default_rng([quiet, busy])
    held, widths, alike = 0, [], 0
    for _ in range(60):
        true, values, chances = two_days(rng, quiet, busy)
        mean, low, high = weighted_interval(values, chances)
        held += low <= true <= high
        widths.append(high - low)
        assert 0 <= low <= mean <= high <= 1
        alike += low <= values.mean() <= high
    assert held >= 56
    assert np.mean(widths) < widest
    # What all labels say alike is another number, which many labels rule out.
    assert quiet + busy < 100 or alike < 12


def test_heavy_labels_decide_how_much_all_of_them_say() -> None:
    assert effective_number(np.ones(7)) == pytest.approx(7)
    assert effective_number(np.array([50.0, 50, 50] + [0.5] * 90)) == pytest.approx(5, abs=0.1)
    values = list(dices(np.random.default_rng(8), 300))
    chances = [0.01] * 6 + [1.0] * 294
    assert effective_number(1 / np.array(chances)) < 20
    _, low, high = weighted_interval(values, chances)
    _, few_low, few_high = mean_interval(values[:6])
    _, all_low, all_high = mean_interval(values)
    assert high - low > 0.5 * (few_high - few_low) > 2 * (all_high - all_low)


def test_equal_weights_are_no_weights() -> None:
    values = dices(np.random.default_rng(9), 20)
    assert betting_interval(values, weights=np.full(20, 7.0)) == betting_interval(values)
    assert weighted_interval(values, [0.25] * 20) == pytest.approx(mean_interval(values))


@pytest.mark.parametrize("count", [1, 12, 2 * FEW])
def test_equal_scores_of_unequal_weight_do_not_collapse(count: int) -> None:
    mean, low, high = weighted_interval([0.9] * count, [0.5, *[0.4] * (count - 1)])
    assert mean == pytest.approx(0.9)
    assert low < 0.9 - 0.9 / count or (count == 1 and (low, high) == (0, 1))


def test_the_same_image_twice_is_one_piece_of_weighted_evidence() -> None:
    values = list(dices(np.random.default_rng(10), 2 * FEW))
    chances = [0.5, 0.4] * FEW
    mean, low, high = weighted_interval(values, chances)
    same, wider_low, wider_high = weighted_interval(values, chances, [str(place // 10) for place in range(len(values))])
    assert same == pytest.approx(mean)
    assert wider_high - wider_low > 1.5 * (high - low)


@pytest.mark.parametrize("chance", [0.0, -0.1, 1.2, float("nan")])
def test_a_probability_that_is_none_is_refused(chance: float) -> None:
    with pytest.raises(DataError, match="above 0 and up to 1"):
        weighted_interval([0.5, 0.5], [0.5, chance])
