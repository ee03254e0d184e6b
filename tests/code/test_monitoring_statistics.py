"""The permutation tests: exact, right where scipy knows the answer, and blind to nothing that they promise to see."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import binom, energy_distance, ks_2samp

from monitoring.statistics.energy import Energy
from monitoring.statistics.gaps import Gaps
from monitoring.statistics.relabelling import Floats, Labels, Permuted, Statistic, permutation_test
from monitoring.statistics.shift import Shift
from monitoring.statistics.strangers import Strangers, spread_out


def sides(reference: int, live: int) -> Labels:
    return np.arange(reference + live) >= reference


def outcome(
    reference: Floats, live: Floats, kinds: Sequence[type[Gaps | Shift | Strangers | Energy]] = (Gaps, Shift, Strangers)
) -> Permuted:
    pool = np.concatenate([reference, live])
    statistics: list[Statistic] = [kind(pool) for kind in kinds]
    return permutation_test(sides(len(reference), len(live)), statistics, rng=np.random.default_rng(0))


def described(rng: np.random.Generator, count: int, columns: int = 8) -> Floats:
    """(count, columns): dependent, skewed, tied, constant, and functions of each other, as descriptors are."""
    values = 0.7 * rng.normal(size=(count, 1)) + rng.normal(size=(count, columns))
    values[:, 3] = np.exp(values[:, 3])
    values[:, 4] = np.round(values[:, 4])
    values[:, 5] = 256.0
    values[:, 6] = values[:, 7] * 2
    return values


def test_the_gap_is_the_kolmogorov_smirnov_statistic_also_with_ties() -> None:
    rng = np.random.default_rng(3)
    pool = np.stack([rng.integers(0, 6, 131), rng.normal(size=131), np.full(131, 0.1)], axis=1).astype(float)
    divisions = np.stack([rng.permutation(sides(90, 41)) for _ in range(20)])
    expected = [[ks_2samp(column[~live], column[live]).statistic for column in pool.T] for live in divisions]
    assert Gaps(pool).each(divisions) == pytest.approx(np.array(expected), abs=1e-6)
    assert Gaps(pool)(divisions) == pytest.approx(np.max(expected, axis=1), abs=1e-6)


def test_the_energy_distance_is_scipys_in_one_dimension() -> None:
    rng = np.random.default_rng(4)
    pool = np.concatenate([rng.normal(size=60), rng.normal(1, 2, 40)])[:, None]
    scaled = pool[:, 0] / pool.std()
    found = float(Energy(pool)(sides(60, 40)[None])[0])
    assert found == pytest.approx(energy_distance(scaled[:60], scaled[60:]) ** 2, rel=1e-4)


def test_divisions_that_swap_equal_embeddings_are_worth_the_same_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    once = rng.normal(size=(300, 16)).astype(np.float32).astype(np.float64)
    # Each embedding occurs twice; which of the two is the window's makes no difference.
    energy = Energy(np.concatenate([once, once]))
    chosen = rng.permutation(300)[:90]
    second = rng.integers(0, 2, (40, 90), dtype=bool)
    live = np.zeros((40, 600), np.bool_)
    for row, swapped in zip(live, second, strict=True):
        row[np.where(swapped, chosen + 300, chosen)] = True
    assert np.unique(energy(live)).size == 1
    # And in whatever order the images come.
    order = rng.permutation(600)
    assert Energy(np.concatenate([once, once])[order])(live[:, order])[0] == pytest.approx(energy(live)[0], rel=1e-12)


@pytest.mark.parametrize("reference", [45, 12, 3])
def test_a_stranger_is_as_far_as_its_second_nearest_reference_image(reference: int) -> None:
    rng = np.random.default_rng(5)
    pool = rng.normal(size=(60, 3))
    divisions = rng.permuted(np.tile(sides(reference, 60 - reference), (40, 1)), axis=1)
    strangers, points = Strangers(pool, reference), spread_out(pool)
    apart = cdist(points, points)
    np.fill_diagonal(apart, np.inf)
    for live, found in zip(divisions, strangers.distances(divisions), strict=True):
        assert found == pytest.approx(np.sort(apart[:, ~live], axis=1)[:, 1])


@pytest.mark.parametrize("reference", [45, 12, 2])
def test_the_nearest_reference_image_is_found_as_by_looking_at_each_and_none_is_its_own(reference: int) -> None:
    rng = np.random.default_rng(6)
    pool = rng.normal(size=(60, 3))
    strangers, points = Strangers(pool, reference), spread_out(pool)
    for live in rng.permuted(np.tile(sides(reference, 60 - reference), (10, 1)), axis=1):
        expected = []
        for image in range(60):
            others = [other for other in range(60) if other != image and not live[other]]
            expected.append(min(others, key=lambda other: float(np.linalg.norm(points[image] - points[other]))))
        assert strangers.nearest(live).tolist() == expected


def test_the_p_value_is_the_share_of_divisions_that_differ_as_much() -> None:
    pool = np.arange(6.0)[:, None]
    # Of the 20 ways to choose 3 of 6 only two separate them wholly; permutations draw them at random.
    found = permutation_test(sides(3, 3), [Gaps(pool)], rng=np.random.default_rng(0), stages=[(9_999, 0.0)])
    assert found.p_value == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("live", [20, 60])
def test_without_drift_a_share_of_windows_at_most_is_called_drift(live: int) -> None:
    rng = np.random.default_rng(live)
    windows, alpha, alarms = 150, 0.1, 0
    for _ in range(windows):
        pool = described(rng, 80 + live)
        statistics: list[Statistic] = [Gaps(pool), Shift(pool), Strangers(pool)]
        stages = ((199, 0.0),)
        alarms += permutation_test(sides(80, live), statistics, rng=rng, stages=stages).p_value <= alpha
    assert binom.ppf(0.001, windows, alpha) <= alarms <= binom.ppf(0.999, windows, alpha)


def test_a_change_of_how_descriptors_go_together_is_seen_by_the_shift_alone() -> None:
    rng = np.random.default_rng(7)
    common = rng.normal(size=(260, 1))
    pool = np.concatenate([common + 0.15 * rng.normal(size=(260, 1)), common], axis=1)
    live = sides(200, 60)
    pool[live, 0] += 0.15  # as much as it differs from the other, a seventh of what both vary
    found = outcome(pool[~live], pool[live])
    assert found.adjusted["gaps"] > 0.2
    assert found.adjusted["shift"] < 0.01


def test_a_few_strangers_among_many_are_seen_by_them_alone() -> None:
    rng = np.random.default_rng(8)
    reference, live = rng.normal(size=(300, 6)), rng.normal(size=(50, 6))
    live[:5] += 6 * np.sign(rng.normal(size=(5, 6)))
    found = outcome(reference, live)
    assert found.adjusted["strangers"] < 0.002 < 0.02 < found.adjusted["gaps"]


def test_embeddings_that_spread_without_moving_are_seen() -> None:
    rng = np.random.default_rng(9)
    found = outcome(rng.normal(size=(150, 16)), 1.5 * rng.normal(size=(60, 16)), (Energy,))
    # Each axis is scaled by both together, so it is the shape that shows.
    assert found.p_value < 0.002


def test_clusters_swap_sides_together() -> None:
    rng = np.random.default_rng(10)
    # Ten patients a side with twenty images each, alike within a patient.
    patients = np.repeat(np.arange(20), 20)
    alarms = {"together": 0, "alone": 0}
    for _ in range(60):
        pool = rng.normal(size=20)[patients][:, None] + 0.1 * rng.normal(size=(400, 1))
        live = patients >= 10
        for name, clusters in (("together", patients), ("alone", None)):
            found = permutation_test(live, [Gaps(pool)], rng=rng, clusters=clusters, stages=[(99, 0.0)])
            alarms[name] += found.p_value <= 0.05
    assert alarms["together"] <= binom.ppf(0.999, 60, 0.05)
    assert alarms["alone"] > 30


def test_a_part_is_judged_as_if_it_were_the_largest() -> None:
    rng = np.random.default_rng(11)
    pool, live = described(rng, 140), sides(100, 40)
    pool[live, 0] += 1.5
    found = outcome(pool[~live], pool[live])
    each = Gaps(pool).each(live[None])[0]
    assert found.adjusted_p("gaps", each.max()) == pytest.approx(found.adjusted["gaps"])
    assert found.adjusted_p("gaps", each[5]) == pytest.approx(1.0)  # constant
    assert found.adjusted_p("gaps", each[0]) <= 0.001 < found.adjusted_p("gaps", each[1])


def test_the_same_seed_gives_the_same_p_value() -> None:
    rng = np.random.default_rng(12)
    reference, live = described(rng, 60), described(rng, 30)
    assert outcome(reference, live).adjusted == outcome(reference, live).adjusted
