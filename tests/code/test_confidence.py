"""Confidence: soft Dice, temperature, calibration and the conformal interval do what their papers say."""

import math

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from resunet.confidence import (
    apply_confidence_map,
    apply_temperature,
    conformal_halfwidth,
    fit_confidence_map,
    fit_temperature,
    soft_dice,
)
from resunet.errors import DataError


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=0))
    return powers / powers.sum(axis=0)


def test_soft_dice_is_the_papers_formula() -> None:
    probability = np.random.default_rng(0).random((40, 30))
    mask = probability > 0.5
    plain = 2 * (probability * mask).sum() / (probability.sum() + mask.sum())
    assert soft_dice(probability, mask) == pytest.approx(plain, abs=1e-3)


def test_soft_dice_is_the_same_for_floats_and_for_their_quantised_form() -> None:
    probability = np.random.default_rng(1).random((40, 30)).astype(np.float32)
    mask = (probability > 0.5).astype(np.uint8) * 255
    assert soft_dice(probability, mask) == soft_dice(np.rint(probability * 255).astype(np.uint8), mask)


def test_soft_dice_of_two_empty_masks_is_1_though_a_sigmoid_never_reaches_0() -> None:
    empty = np.zeros((64, 64), np.uint8)
    assert soft_dice(empty, empty) == 1
    assert soft_dice(np.full((64, 64), 1e-4, np.float32), empty) == 1
    assert soft_dice(np.full((64, 64), 0.3, np.float32), empty) == 0


def test_soft_dice_falls_as_the_network_grows_unsure() -> None:
    mask = np.zeros((32, 32), bool)
    mask[8:20, 8:20] = True
    scores = [soft_dice(np.where(mask, p, 1 - p), mask) for p in (1.0, 0.9, 0.7, 0.55)]
    assert scores[0] == 1 and scores == sorted(scores, reverse=True) and scores[-1] < 0.5


@pytest.mark.parametrize("shape", [(50,), (5, 7), (1, 5, 7), (2, 1, 5, 7)])
def test_temperature_divides_binary_logits(shape: tuple[int, ...]) -> None:
    logits = np.random.default_rng(2).normal(0, 2, shape)
    np.testing.assert_allclose(apply_temperature(sigmoid(logits), 1.7), sigmoid(logits / 1.7), atol=1e-5)


def test_temperature_divides_class_logits() -> None:
    logits = np.random.default_rng(3).normal(0, 2, (4, 5, 7))
    scaled = apply_temperature(softmax(logits), 1.7)
    np.testing.assert_allclose(scaled, softmax(logits / 1.7), atol=1e-5)
    batch = apply_temperature(np.stack([softmax(logits)] * 2), 1.7)
    np.testing.assert_array_equal(batch[1], scaled)


def test_temperature_1_changes_nothing_and_certainty_stays_finite() -> None:
    probability = np.array([0.0, 1e-4, 0.5, 1.0], np.float32)
    same = apply_temperature(probability, 1.0)
    assert same.dtype == np.float32
    np.testing.assert_allclose(same, probability, atol=2e-6)
    assert np.isfinite(apply_temperature(probability, 0.01)).all()
    assert apply_temperature(probability, 2.0)[0] == pytest.approx(1e-3, rel=0.01)  # clipped at 1e-6
    classes = np.zeros((3, 4, 4), np.float32)
    classes[1] = 1
    assert np.isfinite(apply_temperature(classes, 0.01)).all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_makes_no_sense_is_refused(temperature: float) -> None:
    with pytest.raises(DataError, match="above 0"):
        apply_temperature(np.array([0.5]), temperature)


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_the_temperature_that_made_a_binary_model_too_sure_is_found(true: float) -> None:
    rng = np.random.default_rng(4)
    images = [rng.normal(0, 2, (1, 120, 120)) for _ in range(4)]
    truths = [(rng.random((120, 120)) < sigmoid(z[0])).astype(np.uint8) * 255 for z in images]
    probabilities = [sigmoid(z * true) for z in images]
    assert fit_temperature(probabilities, truths) == pytest.approx(true, rel=0.05)
    assert fit_temperature([z * true for z in images], truths, logits=True) == pytest.approx(true, rel=0.05)
    assert fit_temperature(probabilities[0][0], truths[0]) == pytest.approx(true, rel=0.15)


def test_the_temperature_of_a_model_with_classes_is_found() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, (3, 150, 150))
    draw = rng.random((150, 150))
    truth = (draw[None] > softmax(logits).cumsum(axis=0)).sum(axis=0).astype(np.uint8)
    assert fit_temperature(softmax(logits * 2), truth) == pytest.approx(2, rel=0.05)
    assert fit_temperature(logits * 2, truth, logits=True) == pytest.approx(2, rel=0.05)


def test_the_fit_draws_the_same_pixels_for_the_same_seed_and_stays_in_its_bounds() -> None:
    rng = np.random.default_rng(6)
    probability = rng.random((200, 200))
    truth = rng.random((200, 200)) < sigmoid(np.log(probability / (1 - probability)) / 2)
    first, again, other = (fit_temperature(probability, truth, pixels=500, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert fit_temperature(probability, probability > 0.5) == pytest.approx(0.25, rel=0.01)
    assert fit_temperature(probability, probability < 0.5) == pytest.approx(8, rel=0.01)
    assert fit_temperature([], []) == 1


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="do not fit"):
        fit_temperature(np.zeros((3, 4)), np.zeros((4, 3), np.uint8))
    with pytest.raises(DataError, match="cannot be paired"):
        fit_temperature([np.zeros((3, 4))], [])


def test_the_map_is_isotonic_regression_where_each_image_is_its_own_group() -> None:
    rng = np.random.default_rng(7)
    soft = np.sort(rng.random(20))
    dice = np.clip(soft + rng.normal(0, 0.2, 20), 0, 1)
    x, y = fit_confidence_map(soft, dice)
    pools = IsotonicRegression().fit_transform(soft, dice)
    np.testing.assert_allclose(y, np.unique(pools))
    np.testing.assert_allclose(x, [soft[pools == level].mean() for level in np.unique(pools)])


def test_the_map_removes_optimism_and_keeps_order() -> None:
    rng = np.random.default_rng(8)
    soft = rng.uniform(0.5, 1, 400)
    dice = np.clip(soft - 0.1 + rng.normal(0, 0.03, 400), 0, 1)
    x, y = fit_confidence_map(soft[:200], dice[:200])
    assert len(x) <= 20 and (np.diff(x) > 0).all() and (np.diff(y) > 0).all()
    mapped = np.array([apply_confidence_map(x, y, value) for value in soft[200:]])
    assert abs((mapped - dice[200:]).mean()) < 0.01 < abs((soft[200:] - dice[200:]).mean())


def test_one_odd_image_does_not_set_an_end_of_the_map() -> None:
    soft = np.linspace(0.5, 1, 200)
    dice = soft.copy()
    dice[0] = 0.0
    x, y = fit_confidence_map(soft, dice)
    assert apply_confidence_map(x, y, 0.5) > 0.4


def test_the_map_is_defined_for_ties_nan_and_nothing() -> None:
    assert fit_confidence_map([], []) == ([0.0, 1.0], [0.0, 1.0])
    assert fit_confidence_map([math.nan], [0.5]) == ([0.0, 1.0], [0.0, 1.0])
    assert fit_confidence_map([0.8, 0.8], [0.2, 0.6]) == ([0.8], [0.4])
    assert apply_confidence_map([0.8], [0.4], 0.1) == 0.4
    x, y = fit_confidence_map([0.2, 0.9], [0.9, 0.2])
    assert len(x) == 1 and y == [pytest.approx(0.55)]


def test_the_conformal_interval_covers_what_it_promises() -> None:
    rng = np.random.default_rng(9)
    inside = []
    for _ in range(300):
        residuals = rng.normal(0, 0.1, 80)
        inside.append((np.abs(rng.normal(0, 0.1, 50)) <= conformal_halfwidth(residuals, 0.1)).mean())
    assert np.mean(inside) == pytest.approx(0.9, abs=0.02)


def test_the_conformal_rank_counts_the_image_to_come() -> None:
    assert conformal_halfwidth(-np.arange(1, 20) / 100, alpha=0.1) == pytest.approx(0.18)
    assert conformal_halfwidth([0.01] * 8, alpha=0.1) == 1
    assert conformal_halfwidth([0.01] * 9, alpha=0.1) == pytest.approx(0.01)
    assert conformal_halfwidth([math.nan], alpha=0.1) == 1
    assert conformal_halfwidth(np.arange(1, 100) / 100, alpha=0.42) == pytest.approx(0.58)
