"""Intervals hold what they state, also of few images."""

import numpy as np
import pytest
from numpy.typing import NDArray

from resunet.errors import DataError
from resunet.intervals import FEW, FEW_WEIGHTED, betting_interval, mean_interval, weighted_interval


def dices(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """As Dice is distributed: near 1, and 8 % failures."""
    values = rng.beta(18, 1.6, count)
    failed = rng.random(count) < 0.08
    values[failed] = rng.beta(1, 2, int(failed.sum()))
    return values


@pytest.mark.parametrize("count", [3, 10, 49])
def test_few_images_get_an_interval_that_holds_the_mean(count: int) -> None:
    rng = np.random.default_rng(count)
    true = float(dices(rng, 1_000_000).mean())
    held = 0
    for _ in range(120):
        mean, low, high = mean_interval(dices(rng, count))
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
    for _ in range(400):
        drawn = rng.random(400) < chances
        mean, low, high = weighted_interval(population[drawn], chances[drawn])
        means.append(mean)
        held += low <= population.mean() <= high
    plain = [population[rng.random(400) < chances].mean() for _ in range(50)]
    assert np.mean(means) == pytest.approx(population.mean(), abs=0.006)
    assert np.mean(plain) < population.mean() - 0.1
    assert held >= 0.92 * 400


def test_few_weighted_labels_say_nothing_for_sure() -> None:
    mean, low, high = weighted_interval([0.9] * (FEW_WEIGHTED - 1), [0.5] * (FEW_WEIGHTED - 1))
    assert (mean, low, high) == (pytest.approx(0.9), 0.0, 1.0)


@pytest.mark.parametrize("chance", [0.0, -0.1, 1.2, float("nan")])
def test_a_probability_that_is_none_is_refused(chance: float) -> None:
    with pytest.raises(DataError, match="above 0 and up to 1"):
        weighted_interval([0.5, 0.5], [0.5, chance])
