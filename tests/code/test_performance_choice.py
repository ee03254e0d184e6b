"""Which images are chosen: worth labelling, unlike each other, and each with the probability that is stated."""

import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring.performance import choice
from monitoring.performance.choice import Chosen, choose, inclusion, spread_sample
from monitoring.performance.distance import ReferenceSpace, from_bytes, from_lists
from resunet.errors import DataError
from resunet.intervals import weighted_interval

Numbers = NDArray[np.float64]


class Population:
    """Images with what is known of them; the true Dice follows confidence."""

    def __init__(self, size: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.confidence = rng.beta(8, 2, size)
        self.boundary = 1 - self.confidence + rng.normal(0, 0.1, size)
        self.distance = rng.gamma(4, 0.5, size)
        self.points = rng.normal(size=(size, 8)).astype(np.float32)
        self.dice = np.clip(self.confidence - 0.03 * self.distance + rng.normal(0, 0.05, size), 0, 1)

    def choose(self, n: int = 20, random_share: float = 0.3, seed: int = 0, **options: object) -> list[Chosen]:
        given = {"n": n, "random_share": random_share, "seed": seed, **options}
        return choose(self.confidence, self.boundary, self.distance, self.points, **given)  # type: ignore[arg-type]


def test_images_are_chosen_with_the_probability_that_is_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    population, rounds = Population(40), 700
    counts, audits, stated = np.zeros(40), np.zeros(40), np.zeros(40)
    for seed in range(40):
        for one in population.choose(10, seed=seed):
            stated[one.place] = one.probability
    # What is stated costs more than to choose.
    monkeypatch.setattr(choice, "_DRAWS", 1)
    for seed in range(rounds):
        for one in population.choose(10, seed=seed):
            counts[one.place] += 1
            audits[one.place] += one.source == "audit"
    seen = stated > 0
    assert seen.sum() > 20
    error = 4.5 * np.sqrt(np.maximum(stated * (1 - stated), 0.004) / rounds)
    assert (np.abs(counts / rounds - stated)[seen] < error[seen]).all()
    # Audits are uniform, whatever the images are worth.
    assert audits / rounds == pytest.approx(np.full(40, 3 / 40), abs=0.045)


def test_what_is_picked_is_worth_more_than_what_is_drawn_at_random() -> None:
    population = Population(500)
    ranks = np.argsort(np.argsort(population.dice)) / 500
    chosen = population.choose(100)
    picked = np.mean([ranks[one.place] for one in chosen if one.source == "picked"])
    random = np.mean([ranks[one.place] for one in chosen if one.source == "audit"])
    assert picked < 0.3 and random > 0.35
    assert [one.source for one in chosen] == ["audit"] * 30 + ["picked"] * 70
    assert len({one.place for one in chosen}) == 100
    assert {one.why.partition(":")[0] for one in chosen} == {
        "drawn at random",
        "uncertain",
        "far from the reference",
    }


@pytest.mark.parametrize("failing", [0.0, 0.05])
def test_labels_of_a_choice_tell_the_mean_of_all(failing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    population = Population(400)
    # Failures that nothing hints at are met by audits alone, of which each stands for many images.
    population.dice[np.random.default_rng(6).random(400) < failing] = 0.0
    monkeypatch.setattr(choice, "_DRAWS", 40)
    means, held = [], 0
    for seed in range(40):
        chosen = population.choose(40, seed=seed)
        dices = [population.dice[one.place] for one in chosen]
        mean, low, high = weighted_interval(dices, [one.probability for one in chosen])
        means.append(mean)
        held += low <= population.dice.mean() <= high
    assert np.mean(means) == pytest.approx(population.dice.mean(), abs=0.012 if failing == 0 else 0.025)
    assert held >= 38


def test_neighbours_are_seldom_chosen_together() -> None:
    rng = np.random.default_rng(3)
    # Five heaps of 40 images that look alike.
    heap = np.repeat(np.arange(5), 40)
    points = (100 * np.eye(5)[heap] + rng.normal(size=(200, 5))).astype(np.float32)
    chances = inclusion(np.ones(200), 10)
    spread = [np.bincount(heap[spread_sample(chances, points, rng)], minlength=5) for _ in range(40)]
    alone = [np.bincount(heap[rng.choice(200, 10, replace=False)], minlength=5) for _ in range(40)]
    assert np.ptp(spread, axis=1).max() <= 1 < np.ptp(alone, axis=1).mean()


def test_probabilities_add_up_and_none_is_above_one() -> None:
    sizes = np.array([100.0, 50.0, 1.0, 1.0, 1.0, 1.0])
    found = inclusion(sizes, 3)
    assert found.sum() == pytest.approx(3) and found.max() <= 1
    assert list(found[:2]) == [1, 1] and found[2:] == pytest.approx(np.full(4, 0.25))


def test_all_are_taken_where_there_are_no_more_than_asked_for() -> None:
    chosen = Population(7).choose(10)
    assert [(one.place, one.source, one.probability) for one in chosen] == [(i, "audit", 1.0) for i in range(7)]


def test_what_was_picked_before_comes_again_only_at_random() -> None:
    population = Population(60)
    fresh = np.arange(60) >= 40
    chosen = [one for seed in range(20) for one in population.choose(20, seed=seed, fresh=fresh)]
    assert all(fresh[one.place] for one in chosen if one.source == "picked")
    assert any(not fresh[one.place] for one in chosen if one.source == "audit")
    assert len(population.choose(50, fresh=fresh)) == 50


def test_a_choice_works_without_distance_and_embeddings() -> None:
    population = Population(60)
    population.distance[:] = np.nan
    population.points[:] = np.nan
    population.boundary[:5] = np.nan
    assert len(population.choose(20)) == 20
    assert {one.why.partition(":")[0] for one in population.choose(20)} == {"drawn at random", "uncertain"}


def test_distances_are_to_the_nearest_reference_image_in_its_own_units() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(300, 64)).astype(np.float32)
    reference[:, 0] *= 1000
    reference[:, 1] = 7
    space = ReferenceSpace(reference)
    like, unlike = rng.normal(size=(200, 64)).astype(np.float32), rng.normal(2, 1, size=(200, 64)).astype(np.float32)
    for live in (like, unlike):
        live[:, 0] *= 1000
        live[:, 1] = 7
    assert space.distances(reference) == pytest.approx(np.zeros(300), abs=0.05)
    assert (space.distances(like) > space.radius).mean() < 0.06
    assert (space.distances(unlike) > space.radius).mean() > 0.9
    with pytest.raises(DataError, match="at least 3"):
        ReferenceSpace(reference[:2])


def test_embeddings_are_read_as_they_are_stored() -> None:
    row = np.arange(64, dtype="<f4")
    assert np.array_equal(from_bytes([row.tobytes(), None, b"short"])[0], row)
    assert np.isnan(from_bytes([row.tobytes(), None, b"short"])[1:]).all()
    assert from_lists([row.tolist(), None]).shape == (1, 64)
