"""The tests of a rollout: right however often they are looked at, whatever callers and tails, and quick to see harm.

How often they are wrong is for `benchmarks.rollout` to measure; here are cheap samples of it, with fixed seeds.
"""

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from benchmarks.rollout_traffic import NONE, Harm, Traffic, draw, log_wealth, log_wealth_alone, z_scores
from serving.rollout import sequential
from serving.rollout.cells import CELLS, METRICS, Metric, Sums
from serving.rollout.sequential import Contrast, habits, pairs, two_arms, upper_bound

HALF = CELLS // 2
ALPHA = 0.1


def sums(n: np.ndarray, values: np.ndarray) -> Sums:
    return Sums(n.astype(np.float64), values.astype(np.float64))


def answered(seed: int, requests: int = 3000, callers: int = 0, harm: Harm = NONE, cells: int = HALF) -> Traffic:
    return draw(np.random.default_rng(seed), requests, callers, harm).answered(cells)


@pytest.fixture(scope="module", params=[0, 2000, 100], ids=["requests alone", "2,000 callers", "100 callers"])
def alike(request: pytest.FixtureRequest) -> list[Traffic]:
    """Traffic of versions that are alike."""
    return [answered(seed, callers=request.param) for seed in range(40)]


@pytest.mark.parametrize("cells", [CELLS // 100, HALF])
@pytest.mark.parametrize("metric", METRICS)
def test_looked_at_after_every_request_versions_that_are_alike_are_seldom_told_apart(
    alike: list[Traffic], metric: Metric, cells: int
) -> None:
    alarms = [log_wealth(one, metric, cells).max() >= -math.log(ALPHA) for one in alike]
    assert np.mean(alarms) <= ALPHA


def test_a_z_test_that_is_looked_at_as_often_alarms_all_the_time(alike: list[Traffic]) -> None:
    alarms = [z_scores(one, "latency", HALF).max() >= norm.isf(ALPHA) for one in alike]
    assert np.mean(alarms) > 3 * ALPHA


def test_a_test_that_takes_requests_of_one_caller_for_independent_alarms_all_the_time() -> None:
    for callers, right in ((2000, False), (0, True)):
        traffic = [answered(seed, 10_000, callers) for seed in range(40)]
        alarms = [log_wealth_alone(one, "confidence", HALF).max() >= -math.log(ALPHA) for one in traffic]
        assert (np.mean(alarms) <= ALPHA) == right
        assert right or np.mean(alarms) > 3 * ALPHA


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("callers", [0, 2000])
def test_the_simulation_is_of_the_test_that_is_used(metric: Metric, callers: int) -> None:
    traffic = answered(1, callers=callers, harm=Harm(0.02, 0.1, 0.02))
    habit = habits(answered(2, callers=callers).sums(metric)) if callers else None
    running = log_wealth(traffic, metric, HALF, habit)
    for requests in (500, 1700, 3000):
        data = traffic.part(0, requests).sums(metric)
        real = two_arms(data, HALF, habit, own_spread=metric != "errors").log_evidence
        assert running[requests - 1] == pytest.approx(real, abs=0.1)


def uneven(rng: np.random.Generator) -> dict[str, Sums]:
    """What cells may hold, none of it normal."""
    n = rng.poisson(3, CELLS) + np.where(rng.random(CELLS) < 0.01, 5000, 0)
    rare = np.zeros(CELLS)
    rare[rng.choice(np.flatnonzero(n), 5, replace=False)] = 3
    few = np.where(np.arange(CELLS) < 40, 50, 0)
    return {
        "heavy callers": sums(n, n * rng.normal(0.2, 0.1, CELLS)),
        "few errors": sums(n, np.minimum(rare, n)),
        "heavy tails": sums(n, np.sqrt(n) * rng.standard_t(1.5, CELLS) + n),
        "few callers": sums(few, few * (rng.random(CELLS) < 0.1)),
    }


@pytest.mark.parametrize("kind", uneven(np.random.default_rng(0)))
@pytest.mark.parametrize("share", [0.01, 0.25, 0.5])
def test_at_any_one_time_the_wealth_is_one_on_average_whatever_was_sent(kind: str, share: float) -> None:
    """The cells drawn anew a thousand times: only that is chance."""
    rng = np.random.default_rng(1)
    n, values = uneven(rng)[kind]
    wealth = []
    for _ in range(1000):
        order = rng.permutation(CELLS)
        wealth.append(math.exp(two_arms(sums(n[order], values[order]), round(share * CELLS)).log_evidence))
    assert np.mean(wealth) < 1.15
    assert np.mean(np.array(wealth) >= 10) <= 0.1


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("callers", [0, 5000])
def test_a_candidate_that_always_fails_is_found_within_a_handful_of_answers(share: float, callers: int) -> None:
    cells = round(share * CELLS)
    for seed in range(5):
        traffic = answered(seed, 5000, callers, Harm(errors=1.0), cells)
        found = np.flatnonzero(log_wealth(traffic, "errors", cells) >= -math.log(0.01 / 18))
        assert found.size and (traffic.cells[: found[0] + 1] < cells).sum() < 30


@pytest.mark.parametrize(
    ("metric", "harm"),
    [("errors", Harm(errors=0.05)), ("latency", Harm(latency=0.4)), ("confidence", Harm(confidence=0.05))],
)
def test_a_harm_is_found_in_the_metric_that_it_is_in_and_in_no_other(metric: Metric, harm: Harm) -> None:
    traffic = answered(3, 4000, harm=harm)
    for other in METRICS:
        assert (log_wealth(traffic, other, HALF)[-1] > math.log(1000)) == (other == metric)


@pytest.mark.parametrize("metric", METRICS)
def test_a_better_candidate_is_never_evidence_of_harm(metric: Metric) -> None:
    better = Harm(errors=-0.005, latency=-0.5, confidence=-0.1)
    assert log_wealth(answered(4, harm=better), metric, HALF)[-1] < 0


def test_a_candidate_that_varies_more_about_the_same_mean_is_not_taken_for_a_worse_one() -> None:
    """At a share of 1 % the champion's spread alone would be what the candidate is judged by."""
    cells, wide, blind = CELLS // 50, [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n = np.full(CELLS, 20.0)
        spread = np.where(np.arange(CELLS) < cells, 6.0, 1.0)
        values = sums(n, n * rng.normal(0, 0.1, CELLS) * spread)
        wide.append(two_arms(values, cells, own_spread=True).log_evidence)
        blind.append(two_arms(values, cells).log_evidence)
    assert np.mean(np.array(wide) >= -math.log(ALPHA)) <= ALPHA
    assert np.mean(np.array(blind) >= -math.log(ALPHA)) > 2 * ALPHA


def test_what_callers_are_used_to_send_makes_a_small_harm_visible() -> None:
    drawn = draw(np.random.default_rng(5), 40_000, 2000, Harm(confidence=0.03)).answered(HALF, 20_000)
    before, traffic = drawn.part(0, 20_000), drawn.part(20_000, 40_000)
    habit = habits(before.sums("confidence"))
    assert log_wealth(traffic, "confidence", HALF, habit)[-1] > math.log(1000)
    assert log_wealth(traffic, "confidence", HALF)[-1] < math.log(10)


def test_habits_that_no_longer_tell_anything_change_nothing() -> None:
    data = answered(6).sums("confidence")
    useless = np.random.default_rng(0).normal(0, 0.1, CELLS)
    plain, told = two_arms(data, HALF), two_arms(data, HALF, useless)
    assert told.log_evidence == pytest.approx(plain.log_evidence, abs=0.3)
    assert told.variance == pytest.approx(plain.variance, rel=0.05)


def ruled_out(traffic: Traffic, metric: Metric, margin: float, reach: float = 1.0, cells: int = HALF) -> bool:
    """Ever, looked at about a hundred times."""
    for requests in np.unique(np.geomspace(200, len(traffic.cells), 100).astype(int)):
        found = two_arms(traffic.part(0, int(requests)).sums(metric), cells, own_spread=metric != "errors")
        if upper_bound(found, margin, reach, doubt=0.05) < margin:
            return True
    return False


@pytest.mark.parametrize(("metric", "margin"), [("errors", 0.03), ("confidence", 0.03), ("latency", 0.3)])
@pytest.mark.parametrize("callers", [0, 2000])
def test_a_harm_that_is_there_is_seldom_ruled_out_and_one_that_is_not_often(
    metric: Metric, margin: float, callers: int
) -> None:
    def share(harm: Harm, runs: int) -> float:
        drawn = (answered(seed, 6000, callers, harm) for seed in range(runs))
        return float(
            np.mean([ruled_out(one, metric, margin, math.log(10) if metric == "latency" else 1.0) for one in drawn])
        )

    assert share(Harm(**{metric: margin}), 40) <= 0.1
    if not callers:  # with callers, whose habits are not known, it takes longer
        assert share(NONE, 10) == 1.0


@pytest.mark.parametrize("answers", [100, 300, 1000])
def test_no_error_among_few_answers_rules_nothing_out(answers: int) -> None:
    """A rate of 1 % shows no error in 300 answers with a chance of 5 %."""
    n = np.where(np.arange(CELLS) < HALF, answers / HALF, 50)
    found = two_arms(sums(n, np.zeros(CELLS)), HALF)
    assert (upper_bound(found, 0.01, 1.0, 0.05) < 0.01) == (answers == 1000)


def contrast(n: np.ndarray, seed: int = 0, cells: int = HALF) -> Contrast:
    return two_arms(sums(n, n * np.random.default_rng(seed).normal(0, 0.1, CELLS)), cells)


def test_requests_of_few_callers_tell_less_than_as_many_of_many() -> None:
    many = np.full(CELLS, 10.0)
    few = np.where(np.arange(CELLS) % 200 == 0, 2000.0, 0.0)
    of_many, of_few = contrast(many), contrast(few)
    assert (of_few.answers, of_few.callers, of_many.callers) == (of_many.answers, 5, HALF)
    assert upper_bound(of_few, 0.02, 1.0, 0.05) > 10 * upper_bound(of_many, 0.02, 1.0, 0.05)


def test_a_caller_who_sends_most_of_everything_is_no_more_than_one_caller() -> None:
    """Its own cell decides the mean, and only leaving it out shows that."""
    n = np.full(CELLS, 1.0)
    n[0] = 1e6
    assert contrast(n).variance > 0.5 * contrast(n, cells=HALF).difference ** 2
    assert upper_bound(contrast(n), 0.02, 1.0, 0.05) > 0.2


@pytest.mark.parametrize("n", [np.zeros(CELLS), np.eye(1, CELLS)[0], np.eye(1, CELLS, CELLS - 1)[0]])
def test_where_one_version_has_not_answered_nothing_is_said(n: np.ndarray) -> None:
    found = two_arms(sums(n, n), HALF)
    assert (found.answers, found.log_evidence) == (0, 0.0)
    assert upper_bound(found, 0.01, 1.0, 0.05) == math.inf


def test_one_cell_of_a_version_says_nothing_of_how_cells_differ() -> None:
    n = np.zeros(CELLS)
    n[0] = n[-1] = n[-2] = 1000
    assert upper_bound(two_arms(sums(n, n * 0.1), HALF), 0.01, 1.0, 0.05) == math.inf


def test_pairs_need_far_fewer_requests_than_callers_apart() -> None:
    drawn = draw(np.random.default_rng(0), 600, 2000, Harm(confidence=0.03))
    candidate, champion = (Traffic(drawn.cells, one).sums("confidence") for one in (drawn.candidate, drawn.champion))
    found = pairs(candidate, champion)
    assert found.log_evidence > math.log(100)
    assert found.difference == pytest.approx(0.03, abs=0.02)
    assert pairs(champion, candidate).log_evidence < 0
    assert pairs(champion, champion).log_evidence == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_sign_of_a_pair_is_a_fair_game_where_versions_are_alike(seed: int) -> None:
    """All signs that ten cells may have: on average the wealth is what it was."""
    size, n = np.zeros(CELLS), np.ones(CELLS)
    size[:10] = np.abs(np.random.default_rng(seed).standard_t(2, 10))
    wealth = []
    for signs in product([-1, 1], repeat=10):
        differences = size * np.pad(signs, (0, CELLS - 10))
        wealth.append(math.exp(pairs(sums(n, differences), sums(n, 0 * n)).log_evidence))
    assert np.mean(wealth) == pytest.approx(1, rel=1e-9)
    assert max(wealth) > 2


def test_pairs_of_nothing_say_nothing() -> None:
    nothing = sums(np.zeros(CELLS), np.zeros(CELLS))
    assert upper_bound(pairs(nothing, nothing), 0.01, 1.0, 0.05) == math.inf


def test_the_bound_falls_with_every_answer_and_doubt_widens_it() -> None:
    bounds = [upper_bound(contrast(np.full(CELLS, n)), 0.02, 1.0, 0.05) for n in (1.0, 10.0, 100.0)]
    assert bounds == sorted(bounds, reverse=True)
    found = contrast(np.full(CELLS, 10.0))
    assert upper_bound(found, 0.02, 1.0, 0.01) > upper_bound(found, 0.02, 1.0, 0.1) > found.difference


@pytest.mark.parametrize("freedom", [5.0, 10.0, 100.0])
@pytest.mark.parametrize("z", [2.5, 3.3, 4.0])
def test_students_quantile_is_as_rare_as_the_normal_one(freedom: float, z: float) -> None:
    assert sequential._student(z, freedom) == pytest.approx(student.isf(norm.sf(z), freedom), rel=0.03)


def test_a_brownian_motion_seldom_crosses_the_boundary() -> None:
    information = np.geomspace(0.01, 100, 1500)
    steps = np.random.default_rng(0).normal(size=(2000, information.size)) * np.sqrt(np.diff(information, prepend=0))
    z = np.cumsum(steps, axis=1) / np.sqrt(information)
    boundary = np.array([sequential._boundary(1 / one, 1.0, 0.05) for one in information])
    assert 0.02 < (z > boundary).any(axis=1).mean() <= 0.05
