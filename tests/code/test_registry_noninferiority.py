"""What differences of Dice show: bounds that follow the skew, groups drawn whole, and how many images more decide.

That the bounds keep their error is for `benchmarks.gates` to measure; here are cheap samples of it.
"""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from registry import noninferiority as module
from registry.noninferiority import ERROR, FEWEST_CLUSTERS, MOST_IMAGES, bounds, noninferiority

# A sample of 80 whose skew is to the left, with the mean that a test wants.
SKEWED = -np.random.default_rng(3).exponential(0.05, 80)


def at(mean: float) -> np.ndarray:
    return SKEWED - SKEWED.mean() + mean


@pytest.mark.parametrize(("mean", "outcome"), [(0.01, "pass"), (-0.005, "undecided"), (-0.04, "fail")])
def test_the_bound_decides_and_not_the_mean(mean: float, outcome: str) -> None:
    shown = noninferiority(at(mean), 0.01)
    assert shown.outcome == outcome
    assert shown.mean == pytest.approx(mean)
    assert shown.low < mean < shown.high
    assert (shown.low >= -0.01) == (outcome == "pass")
    assert (shown.high < -0.01) == (outcome == "fail")


def test_the_lower_bound_reaches_further_where_losses_are_skewed() -> None:
    shown = noninferiority(at(0.0), 0.01)
    mirrored = noninferiority(-at(0.0), 0.01)
    assert -shown.low > 1.1 * shown.high
    assert mirrored.low == pytest.approx(-shown.high, rel=0.1)
    assert mirrored.low > shown.low


def test_differences_that_are_one_number_have_no_spread() -> None:
    shown = noninferiority([-0.05] * 12, 0.01)
    assert (shown.low, shown.high) == pytest.approx((-0.05, -0.05))
    assert shown.outcome == "fail"


@pytest.mark.parametrize(("loss", "outcome"), [(0.9 - 0.89, "pass"), (0.0101, "fail")])
def test_a_loss_of_the_margin_itself_passes_however_it_is_rounded(loss: float, outcome: str) -> None:
    assert 0.9 - 0.89 > 0.01  # as floats are
    assert noninferiority([-loss] * 30, 0.01).outcome == outcome


def test_the_same_input_gives_the_same_answer_and_order_does_not_matter_much() -> None:
    assert noninferiority(SKEWED, 0.01) == noninferiority(SKEWED, 0.01)
    assert noninferiority(SKEWED[::-1], 0.01).low == pytest.approx(noninferiority(SKEWED, 0.01).low, rel=0.02)


def test_a_shift_moves_the_bounds_and_a_stretch_stretches_them() -> None:
    plain, moved = noninferiority(SKEWED, 0.01), noninferiority(3 * SKEWED + 0.2, 0.01)
    assert (moved.low, moved.high) == pytest.approx((3 * plain.low + 0.2, 3 * plain.high + 0.2))


def test_images_of_one_group_tell_less_than_as_many_alone() -> None:
    values = np.repeat(np.random.default_rng(0).normal(0, 0.05, 20), 5)
    alone = noninferiority(values, 0.01)
    grouped = noninferiority(values, 0.01, [f"patient {place // 5}" for place in range(100)])
    assert (grouped.images, grouped.clusters, alone.clusters) == (100, 20, 100)
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_groups_of_one_image_are_as_no_groups() -> None:
    names = [f"patient {place}" for place in range(len(SKEWED))]
    assert noninferiority(SKEWED, 0.01, names) == noninferiority(SKEWED, 0.01)
    assert noninferiority(SKEWED, 0.01, [None] * len(SKEWED)) == noninferiority(SKEWED, 0.01)


def test_a_group_may_be_called_like_the_place_of_an_image() -> None:
    """An image without a group is not of the group whose name is its place."""
    shown = noninferiority(np.zeros(12), 0.01, ["0", *[None] * 10, "0"])
    assert shown.clusters == 11


@pytest.mark.parametrize("images", range(FEWEST_CLUSTERS))
def test_a_handful_of_images_decides_nothing(images: int) -> None:
    shown = noninferiority([0.5] * images, 0.01)
    assert (shown.outcome, shown.low, shown.high) == ("undecided", -math.inf, math.inf)
    assert shown.more_images == FEWEST_CLUSTERS - images
    assert math.isnan(shown.mean) == (images == 0)


def test_a_handful_of_groups_decides_nothing_however_many_images_they_hold() -> None:
    shown = noninferiority([0.5] * 400, 0.01, ["a", "b", "c", "d"] * 100)
    assert (shown.outcome, shown.clusters, shown.more_images) == ("undecided", 4, 100)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_is_no_difference(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        noninferiority([0.0] * 20 + [bad], 0.01)


@pytest.mark.parametrize("mean", [-0.003, -0.02])
def test_as_many_more_images_as_it_says_would_decide(mean: float) -> None:
    """Four times in five: images drawn from these very ones, whose mean is therefore true."""
    values = at(mean)
    shown = noninferiority(values, 0.01)
    assert shown.outcome == "undecided" and shown.more_images is not None
    rng = np.random.default_rng(0)
    drawn = rng.choice(values, (len(values) + shown.more_images, 250))
    found = bounds(drawn, np.ones(len(drawn)))
    decided = (found.low >= -0.01) | (found.high < -0.01)
    assert 0.7 < decided.mean() < 0.9


def test_a_mean_at_the_margin_is_decided_by_no_number_of_images() -> None:
    assert noninferiority(at(-0.01), 0.01).more_images == MOST_IMAGES


def share_let_through(values: np.ndarray) -> float:
    """Of columns whose true mean is 0, where the margin is 0 too."""
    return float((bounds(values, np.ones(len(values))).low >= 0).mean())


def test_a_loss_that_a_tenth_of_thirty_images_carries_is_seldom_let_through() -> None:
    """The bootstrap alone lets 6.6 % of these through."""
    rng = np.random.default_rng(5)
    values = rng.normal(0, 0.03, (30, 1000))
    few = rng.random(values.shape) < 0.1
    values = np.where(few, rng.normal(-0.1, 0.09, values.shape), values) + 0.01
    assert share_let_through(values) < 0.05


def test_heavy_tails_do_not_let_more_through() -> None:
    """A tenth of the images varies six times as much: the bootstrap alone lets 8.9 % of these through."""
    rng = np.random.default_rng(5)
    values = rng.normal(0, 1, (30, 1000)) * np.where(rng.random((30, 1000)) < 0.1, 6.0, 1.0)
    assert share_let_through(values) < 0.03


def test_normal_differences_of_many_images_have_about_the_interval_of_student() -> None:
    """So that the care for small samples costs large ones nothing."""
    values = np.random.default_rng(1).normal(0, 0.05, 1000)
    shown = noninferiority(values, 0.01)
    reach = student.ppf(1 - ERROR, 999) * values.std(ddof=1) / np.sqrt(1000)
    assert shown.mean - shown.low == pytest.approx(reach, rel=0.06)
    assert shown.high - shown.mean == pytest.approx(reach, rel=0.06)


@pytest.mark.parametrize("freedom", [2.0, 3.0, 7.5, 40.0, 1000.0])
def test_students_quantile_is_near_the_true_one(freedom: float) -> None:
    assert module._student(np.array([freedom]))[0] == pytest.approx(student.ppf(1 - ERROR, freedom), rel=0.004)


def test_several_sets_at_once_are_as_one_after_the_other() -> None:
    sizes = np.array([1.0, 2.0, 5.0, 3.0, 1.0, 4.0, 2.0])
    sums = np.random.default_rng(2).normal(0, 1, (7, 3)) * sizes[:, None]
    together = bounds(sums, sizes)
    for place in range(3):
        single = bounds(sums[:, place : place + 1], sizes)
        for all_of, one in zip(together, single, strict=True):
            assert all_of[place] == pytest.approx(one[0])


def expanded(sums: np.ndarray, sizes: np.ndarray, place: int) -> tuple[np.ndarray, float, float]:
    """What `bounds` computes by sums over counts, drawn cluster by drawn cluster: statistics, mean and error.

    Args:
        place: of the cluster of which a little more is seen.
    """
    n, extra = len(sums), module._EXTRA / len(sums)
    all_sums, all_sizes = np.append(sums, extra * sums[place]), np.append(sizes, extra * sizes[place])

    def mean_and_error(s: np.ndarray, k: np.ndarray) -> tuple[float, float]:
        mean = s.sum() / k.sum()
        return mean, np.sqrt(((s - mean * k) ** 2).sum() * len(s) / (len(s) - 1)) / k.sum()

    mean, error = mean_and_error(all_sums, all_sizes)
    statistics = []
    for counts in module._counts(n + 1, 0, 0, module.DRAWS):
        chosen = np.repeat(np.arange(n + 1), counts)
        drawn, own = mean_and_error(all_sums[chosen], all_sizes[chosen])
        statistics.append((drawn - mean) / own)
    return np.array(statistics), mean, error


def test_bounds_are_those_of_the_drawn_clusters_written_out() -> None:
    sizes = np.resize([1.0, 2.0, 5.0, 3.0], 40)
    values = np.random.default_rng(4).exponential(0.05, 40)
    sums = -values * sizes
    found = bounds(sums[:, None], sizes)
    residuals = sums - sizes * sums.sum() / sizes.sum()
    for place, level, bound in ((residuals.argmin(), 1 - ERROR, found.low), (residuals.argmax(), ERROR, found.high)):
        statistics, mean, error = expanded(sums, sizes, int(place))
        by_bootstrap = mean - np.quantile(statistics, level) * error
        # Student's may reach further, and never less far.
        assert (bound[0] - by_bootstrap) * np.sign(level - 0.5) <= 1e-12
        if level > 0.5:
            assert bound[0] == pytest.approx(by_bootstrap)


def test_more_images_than_fit_into_one_piece_are_drawn_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = noninferiority(SKEWED, 0.01)
    monkeypatch.setattr(module, "_CHUNK", len(SKEWED) * 200)
    pieces = noninferiority(SKEWED, 0.01)
    assert (pieces.low, pieces.high) == pytest.approx((whole.low, whole.high), rel=0.03)
    # No piece is drawn like the first one: two hundred draws say something else.
    monkeypatch.setattr(module, "DRAWS", 200)
    first = noninferiority(SKEWED, 0.01)
    assert abs(first.low - pieces.low) > 2 * abs(whole.low - pieces.low)
