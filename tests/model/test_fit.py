"""Training: it learns, repeats itself bit for bit, and ends when it should."""

import itertools
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_training import Pixels, assert_same_run, blobs, fit_small, same_weights, small_settings

from pipelines.training.batches import SampleStore
from pipelines.training.fit import fit
from resunet.errors import DataError, SettingsError


def test_it_learns_to_find_bright_discs() -> None:
    fitted = fit_small(small_settings(epochs=40, width=8))
    assert max(row.validation_dice for row in fitted.history) > 0.85
    assert fitted.history[-1].train_loss < fitted.history[0].train_loss


def test_same_seed_gives_the_same_weights_bit_for_bit() -> None:
    assert same_weights(fit_small(small_settings()), fit_small(small_settings()))
    assert not same_weights(fit_small(small_settings()), fit_small(small_settings(seed=1)))


def test_images_that_workers_stream_give_the_same_weights() -> None:
    streamed = fit_small(small_settings(memory_budget_mb=0, workers=2))
    assert_same_run(streamed, fit_small(small_settings()))


def test_a_run_limited_by_time_is_repeated_exactly_from_its_steps_and_schedule() -> None:
    ticks = itertools.count()

    def clock() -> float:
        return next(ticks) * 0.5

    timed = fit_small(small_settings(epochs=0, max_minutes=1), clock=clock)
    assert 20 < timed.steps < 120 and len(timed.history) > 2
    repeated = fit_small(small_settings(epochs=0, schedule=str(timed.schedule), max_steps=timed.steps))
    assert repeated.steps == timed.steps
    assert_same_run(repeated, timed)


def test_a_run_of_epochs_is_repeated_from_its_schedule_with_its_choice_of_weights() -> None:
    settings = {"epochs": 6, "evaluations": 6, "learning_rate": 0.3}
    whole = fit_small(small_settings(**settings))
    repeated = fit_small(small_settings(schedule=str(whole.schedule), learning_rate=0.3))
    assert_same_run(repeated, whole)


def test_a_run_limited_by_time_ends_in_time_with_the_learning_rate_down() -> None:
    started = time.monotonic()
    clock_offset = itertools.count()
    timed = fit_small(small_settings(epochs=0, max_minutes=1), clock=lambda: next(clock_offset) * 0.25)
    assert timed.seconds <= 60 + 5
    assert timed.history[-1].learning_rate < 0.1 * 0.01
    assert time.monotonic() - started < 300


class _Fickle:
    """Validation that likes the first weights it sees, and none after."""

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Pixels:
        rgb, mask = blobs(100 + index)
        self.read += 1
        return rgb, mask if self.read <= len(self) else 1 - mask


def test_the_best_weights_are_kept_or_the_last_ones_where_the_images_may_not_choose() -> None:
    training = SampleStore(blobs, [64 * 64 * 4] * 16, 1 << 30)
    best = fit(small_settings(), training, _Fickle())
    last = fit(small_settings(keep="last"), training, _Fickle())
    assert best.history == [replace(row, seconds=best.history[index].seconds) for index, row in enumerate(last.history)]
    assert max(row.validation_dice for row in best.history) == best.history[0].validation_dice
    knots = str(best.schedule)
    assert same_weights(best, fit_small(small_settings(schedule=knots, max_steps=4)))
    assert same_weights(last, fit_small(small_settings(schedule=knots.replace("*,", ","))))


@pytest.mark.parametrize(("rate", "precision"), [(1e3, "fp32"), (1e30, "bf16")])
def test_a_training_that_diverges_is_told_in_words_and_leaves_no_checkpoint_of_it(
    tmp_path: Path, rate: float, precision: str
) -> None:
    checkpoint = tmp_path / "run.ckpt"
    with pytest.raises(DataError, match=r"diverged: the loss is .* at step \d+; .* lower than 1") as told:
        fit_small(small_settings(learning_rate=rate, precision=precision, epochs=40, evaluations=1), checkpoint)
    assert ("precision=fp32" in str(told.value)) == (precision == "bf16")
    assert not checkpoint.exists()


def test_it_stops_early_when_validation_no_longer_improves() -> None:
    fitted = fit_small(small_settings(epochs=40, evaluations=40, learning_rate=1e-9, patience=3))
    assert fitted.steps < 160
    assert "no better Dice" in fitted.stopped


def test_more_classes_than_two_are_learnt() -> None:
    def three(index: int) -> Pixels:
        rgb, mask = blobs(index)
        mask[:, :32] *= 2
        rgb[mask == 2, 2] = 0
        return rgb, mask

    training = SampleStore(three, [64 * 64 * 4] * 16, 1 << 30)
    fitted = fit(small_settings(classes=3, epochs=10), training, [three(index) for index in range(100, 104)])
    assert fitted.network(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)
    assert fitted.history[-1].train_loss < fitted.history[0].train_loss


@pytest.mark.parametrize(
    ("name", "value"),
    [("crop", 33), ("width", 0), ("epochs", -1), ("learning_rate", -1), ("architecture", "unet")],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=name):
        small_settings(**{name: value})


def test_no_images_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DataError, match="prepare"):
        fit(small_settings(), SampleStore(blobs, [], 0), [blobs(0)])
