"""AUC ranks the floats that there are, wherever between 0 and 1 they lie, and takes no more memory than it says."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from resunet import ranking
from resunet.ranking import Ranking

RNG = np.random.default_rng(0)
Floats = NDArray[np.float32]


def area(probability: Floats, truth: NDArray[np.uint8], parts: int = 1) -> float:
    """The AUC of an image that comes in strips."""
    whole = Ranking(len(probability), truth.size)
    for rows in np.array_split(np.arange(truth.shape[0]), parts):
        whole.add(probability[:, rows], truth[rows])
    return whole.auc()


def logits(sharpness: float, shift: float) -> tuple[Floats, NDArray[np.uint8]]:
    """Probabilities (1, 64, 80) of a mask, all of them low, high or in between."""
    truth = (RNG.random((64, 80)) < 0.3).astype(np.uint8)
    z = sharpness * truth + RNG.normal(0, 1, truth.shape) + shift
    return (1 / (1 + np.exp(-z))).astype(np.float32)[None], truth


@pytest.fixture(params=["exact", "counted"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "counted":
        monkeypatch.setattr(ranking, "EXACT_VALUES", 0)
    return str(request.param)


@pytest.mark.parametrize("shift", [-12.0, -5.0, 0.0, 5.0, 12.0])
def test_a_perfect_ranking_is_perfect_however_sure_the_network_is(either: str, shift: float) -> None:
    truth = (np.arange(4096).reshape(64, 64) >= 3000).astype(np.uint8)
    z = shift + np.where(truth, 0.05, -0.05)
    assert area((1 / (1 + np.exp(-z))).astype(np.float32)[None], truth) == 1.0


@pytest.mark.parametrize("shift", [-9.0, -2.0, 0.0, 2.0, 9.0])
def test_the_area_is_that_of_the_floats(either: str, shift: float) -> None:
    probability, truth = logits(1.5, shift)
    expected = roc_auc_score(truth.ravel(), probability.ravel())
    assert area(probability, truth) == pytest.approx(expected, abs=1e-12 if either == "exact" else 1e-4)


def test_parts_add_up(either: str) -> None:
    probability, truth = logits(1.0, -3.0)
    assert area(probability, truth, parts=5) == area(probability, truth)
    levels = np.rint(probability * 255).astype(np.uint8)
    rounded = roc_auc_score(truth.ravel(), levels.ravel())
    assert area(levels, truth, parts=3) == pytest.approx(rounded, abs=1e-12)  # type: ignore[arg-type]


def test_classes_are_ranked_one_against_the_rest(either: str) -> None:
    truth = RNG.integers(0, 3, (40, 50)).astype(np.uint8)
    scores = RNG.random((3, 40, 50)) + (truth == np.arange(3)[:, None, None])
    probability = (scores / scores.sum(axis=0)).astype(np.float32)
    expected = np.mean([roc_auc_score((truth == c).ravel(), probability[c].ravel()) for c in (1, 2)])
    assert area(probability, truth, parts=4) == pytest.approx(expected, abs=1e-4)
    only_background = np.zeros_like(truth)
    assert np.isnan(area(probability, only_background))


def test_memory_does_not_grow_with_the_image_beyond_what_is_ranked_exactly() -> None:
    probability, truth = RNG.random((8, 256, 256), np.float32), RNG.integers(0, 8, (256, 256)).astype(np.uint8)
    tracemalloc.start()
    try:
        whole = Ranking(8, 10_000 * 10_000)
        for _ in range(3):
            whole.add(probability, truth)
        assert whole.auc() == pytest.approx(0.5, abs=0.02)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
        tracemalloc.reset_peak()
        Ranking(1, ranking.EXACT_VALUES)
        assert tracemalloc.get_traced_memory()[1] < 150_000_000
    finally:
        tracemalloc.stop()
