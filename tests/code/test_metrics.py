"""Metrics equal their definitions, also where a mask is empty."""

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

from resunet.errors import DataError
from resunet.metrics import (
    METRICS,
    auc,
    bootstrap_interval,
    boundary_f1,
    confusion,
    dice,
    iou,
    precision,
    recall,
    score,
)

RNG = np.random.default_rng(0)
EMPTY = np.zeros((24, 32), np.uint8)


def blobs(seed: int, classes: int = 2) -> np.ndarray:
    field = cv2.GaussianBlur(np.random.default_rng(seed).random((48, 64)), (0, 0), 3)
    edges = np.quantile(field, np.arange(1, classes) / classes)
    return np.digitize(field, edges).astype(np.uint8)


def naive(prediction: np.ndarray, truth: np.ndarray, c: int) -> dict[str, float]:
    p, t = prediction == c, truth == c
    hit = (p & t).sum()
    return {
        "dice": 2 * hit / (p.sum() + t.sum()),
        "iou": hit / (p | t).sum(),
        "precision": hit / p.sum(),
        "recall": hit / t.sum(),
    }


def naive_boundary_f1(prediction: np.ndarray, truth: np.ndarray, tolerance: int) -> float:
    def points(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1, mode="edge")
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(mask & ~inner)

    a, b = points(prediction > 0), points(truth > 0)
    distance = np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))
    p, r = (distance.min(axis=1) <= tolerance).mean(), (distance.min(axis=0) <= tolerance).mean()
    return float(2 * p * r / (p + r))


@pytest.mark.parametrize("metric", [dice, iou, precision, recall])
@pytest.mark.parametrize("classes", [2, 4])
def test_overlap_is_the_mean_of_its_definition_over_foreground_classes(
    metric: Callable[[np.ndarray, np.ndarray], float], classes: int
) -> None:
    prediction, truth = blobs(1, classes), blobs(2, classes)
    expected = np.mean([naive(prediction, truth, c)[metric.__name__] for c in range(1, classes)])
    assert metric(prediction, truth) == pytest.approx(expected)


@pytest.mark.parametrize("metric", [dice, iou, precision, recall, boundary_f1])
def test_0_255_and_bool_and_0_1_are_the_same_binary_mask(
    metric: Callable[[np.ndarray, np.ndarray], float],
) -> None:
    prediction, truth = blobs(1), blobs(2)
    expected = metric(prediction, truth)
    assert 0 < expected < 1
    assert metric(prediction * 255, truth) == metric(prediction > 0, truth * 255) == expected


def test_empty_masks_have_values() -> None:
    full = EMPTY + 1
    for metric in (dice, iou, precision, recall, boundary_f1):
        assert metric(EMPTY, EMPTY) == 1
        assert metric(full, full) == 1
    for metric in (dice, iou, boundary_f1):
        assert metric(EMPTY, full) == metric(full, EMPTY) == 0
    assert (precision(EMPTY, full), recall(EMPTY, full)) == (1, 0)
    assert (precision(full, EMPTY), recall(full, EMPTY)) == (0, 1)


def test_only_classes_present_in_truth_or_prediction_are_averaged() -> None:
    truth = EMPTY.copy()
    truth[:4] = 5
    assert dice(truth, truth) == 1
    wrong = truth.copy()
    wrong[-4:] = 3
    assert dice(wrong, truth) == pytest.approx((1 + 0) / 2)


def test_confusion_counts_true_rows_and_predicted_columns() -> None:
    prediction, truth = blobs(1, 4), blobs(2, 4)
    expected = confusion_matrix(truth.ravel(), prediction.ravel(), labels=range(5))
    np.testing.assert_array_equal(confusion(prediction, truth, 5), expected)


def test_counts_add_up_over_their_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, truth = blobs(1, 4), blobs(2, 4)
    levels = RNG.integers(0, 256, (4, *truth.shape)).astype(np.uint8)
    whole = confusion(prediction, truth, 4).tolist(), score(prediction, truth, levels)
    monkeypatch.setattr("resunet.metrics._CHUNK", 1000)
    assert (confusion(prediction, truth, 4).tolist(), score(prediction, truth, levels)) == whole


def test_masks_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(DataError, match="class indices of 2 or more"):
        confusion(blobs(1, 3), blobs(2, 2), 2)
    with pytest.raises(DataError, match="cannot be compared"):
        dice(EMPTY, EMPTY[1:])
    with pytest.raises(DataError, match="cannot be compared"):
        boundary_f1(EMPTY, EMPTY[1:])
    with pytest.raises(DataError, match="cannot be compared"):
        auc(EMPTY[1:], EMPTY)
    with pytest.raises(DataError, match="uint8 or bool"):
        dice(EMPTY.astype(np.int64), EMPTY)  # type: ignore[arg-type]


@pytest.mark.parametrize("tolerance", [0, 1, 2, 5])
def test_boundary_f1_equals_all_pairs_of_boundary_pixels(tolerance: int) -> None:
    prediction, truth = blobs(3), blobs(4)
    expected = naive_boundary_f1(prediction, truth, tolerance)
    assert boundary_f1(prediction, truth, tolerance) == pytest.approx(expected)


def test_boundary_f1_forgives_a_shift_within_the_tolerance_only() -> None:
    truth = EMPTY.copy()
    truth[6:16, 8:20] = 1
    assert boundary_f1(np.roll(truth, 2, axis=1), truth, 2) == 1
    assert boundary_f1(np.roll(truth, 3, axis=1), truth, 2) < 1


def test_auc_equals_sklearn() -> None:
    truth = blobs(5)
    levels = np.clip(truth * 60 + RNG.integers(0, 190, truth.shape), 0, 255).astype(np.uint8)
    assert auc(levels, truth) == pytest.approx(roc_auc_score(truth.ravel(), levels.ravel()), abs=1e-12)
    probability = np.clip(truth * 0.2 + RNG.random(truth.shape) * 0.8, 0, 1).astype(np.float32)
    expected = roc_auc_score(truth.ravel(), probability.ravel())
    assert auc(probability, truth) == pytest.approx(expected, abs=1e-12)
    assert auc(probability[None], truth) == auc(probability, truth)


def test_auc_of_classes_is_the_mean_against_the_rest() -> None:
    truth = blobs(6, 3)
    levels = RNG.integers(0, 256, (3, *truth.shape)).astype(np.uint8)
    levels[1] = np.where(truth == 1, levels[1] // 2 + 128, levels[1])
    expected = np.mean([roc_auc_score((truth == c).ravel(), levels[c].ravel()) for c in (1, 2)])
    assert auc(levels, truth) == pytest.approx(expected)
    truth[truth == 2] = 0
    assert auc(levels, truth) == pytest.approx(roc_auc_score((truth == 1).ravel(), levels[1].ravel()))


def test_auc_of_one_class_only_is_nan() -> None:
    assert math.isnan(auc(EMPTY, EMPTY))
    assert math.isnan(auc(EMPTY, EMPTY + 1))
    assert math.isnan(auc(np.stack([EMPTY] * 3), EMPTY))


def test_score_gives_every_metric_in_order() -> None:
    prediction, truth = blobs(1), blobs(2)
    levels = prediction * 200
    scores = score(prediction, truth, levels)
    assert tuple(scores) == METRICS
    assert scores["dice"] == dice(prediction, truth) and scores["auc"] == auc(levels, truth)
    assert scores["boundary_f1"] == boundary_f1(prediction, truth)


def test_the_bootstrap_interval_of_a_mean_is_about_the_normal_one() -> None:
    values = RNG.normal(0.9, 0.1, 400)
    mean, low, high = bootstrap_interval(values)
    error = values.std() / 20
    assert mean == pytest.approx(values.mean())
    assert (low, high) == (
        pytest.approx(mean - 1.96 * error, abs=0.002),
        pytest.approx(mean + 1.96 * error, abs=0.002),
    )
    assert bootstrap_interval(values, level=0.5)[2] < high


def test_the_bootstrap_is_deterministic_and_its_seed_counts() -> None:
    values = RNG.random(50)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)


def test_images_of_one_group_are_drawn_together() -> None:
    groups = [f"patient {i // 10}" for i in range(200)]
    values = np.repeat(RNG.normal(0.8, 0.1, 20), 10)
    mean, low, high = bootstrap_interval(values, groups)
    _, alone_low, alone_high = bootstrap_interval(values)
    assert mean == pytest.approx(values.mean())
    assert (high - low) > 2.5 * (alone_high - alone_low)  # sqrt(10) where images of a group are identical


def test_images_without_a_group_stand_alone() -> None:
    values = RNG.random(30)
    assert bootstrap_interval(values, [None] * 30) == bootstrap_interval(values)


def test_nan_is_left_out_of_mean_and_interval() -> None:
    values = RNG.random(30)
    with_nan = np.insert(values, [3, 9], np.nan)
    assert bootstrap_interval(with_nan) == bootstrap_interval(values)
    assert bootstrap_interval([0.5]) == (0.5, 0.5, 0.5)
    for nothing in ([], [math.nan]):
        assert all(math.isnan(part) for part in bootstrap_interval(nothing))


def test_groups_must_pair_with_values() -> None:
    with pytest.raises(DataError, match="as many groups"):
        bootstrap_interval([0.1, 0.2], ["a"])
