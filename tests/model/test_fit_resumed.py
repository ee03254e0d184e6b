"""A training that was killed goes on where it was, and ends as if it had not been."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from small_training import KilledError, assert_same_run, die_at, fit_small, same_weights, small_settings

from pipelines.training import fit as training_loop
from pipelines.training import precision
from pipelines.training.fit import Epoch, Evaluated
from resunet.errors import DataError


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path, precision: str) -> None:
    settings = small_settings(precision=precision)
    checkpoint = tmp_path / "run.ckpt"

    with pytest.raises(KilledError):
        fit_small(settings, checkpoint, on_step=die_at(10))
    assert_same_run(fit_small(settings, checkpoint), fit_small(settings))


def test_a_checkpoint_by_the_clock_goes_on_between_validations_and_changes_nothing(tmp_path: Path) -> None:
    settings, checkpoint = small_settings(evaluations=2), tmp_path / "run.ckpt"
    hours = itertools.count()
    by_clock: dict[str, object] = {"clock": lambda: next(hours) * 30.0, "checkpoint_seconds": 60.0}
    with pytest.raises(KilledError):
        fit_small(settings, checkpoint, on_step=die_at(7), **by_clock)
    steps: list[int] = []
    resumed = fit_small(settings, checkpoint, on_step=lambda step, *_: steps.append(step), **by_clock)
    assert 3 < steps[0] <= 7, "the checkpoint lies between the start and the first validation"
    assert_same_run(resumed, fit_small(settings))


def test_an_evaluation_that_cannot_be_told_of_is_in_the_checkpoint(tmp_path: Path) -> None:
    settings, checkpoint = small_settings(), tmp_path / "run.ckpt"

    def lose(evaluated: Evaluated, epochs: Sequence[Epoch]) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        fit_small(settings, checkpoint, on_evaluation=lose)
    told: list[int] = []
    resumed = fit_small(settings, checkpoint, on_evaluation=lambda row, _: told.append(row.step))
    assert told == [8, 12, 16] and [row.step for row in resumed.history] == [4, 8, 12, 16]


def test_each_epoch_is_told_once_also_of_a_run_that_was_resumed(tmp_path: Path) -> None:
    settings, checkpoint = small_settings(evaluations=2), tmp_path / "run.ckpt"
    told: list[int] = []

    def tell(_: Evaluated, epochs: Sequence[Epoch]) -> None:
        told.extend(epoch.step for epoch in epochs)

    with pytest.raises(KilledError):
        fit_small(settings, checkpoint, on_step=die_at(14), on_evaluation=tell)
    resumed = fit_small(settings, checkpoint, on_evaluation=tell)
    assert told == [row.step for row in resumed.epochs] == [4, 8, 12, 16]
    assert resumed.epochs == fit_small(settings).epochs
    losses = [row.loss for row in resumed.epochs]
    assert resumed.history[0].train_loss == pytest.approx(sum(losses[:2]) / 2)


def test_a_checkpoint_without_epochs_tells_of_whole_ones_alone(tmp_path: Path) -> None:
    settings, checkpoint = small_settings(evaluations=3), tmp_path / "run.ckpt"
    with pytest.raises(KilledError):
        fit_small(settings, checkpoint, on_step=die_at(7))
    state = torch.load(checkpoint, weights_only=True)
    between = state["progress"]["step"]
    assert between % 4, "the checkpoint lies within an epoch"
    for name in ("epochs", "epoch_losses"):
        del state["progress"][name]
    torch.save(state, checkpoint)
    resumed = fit_small(settings, checkpoint)
    assert [row.step for row in resumed.epochs] == [step for step in (4, 8, 12, 16) if step - 4 >= between]
    whole = {row.step: row for row in fit_small(settings).epochs}
    assert all(whole[row.step] == row for row in resumed.epochs)


def test_a_trainer_killed_half_way_goes_on_where_it_was(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        from small_training import fit_small, small_settings
        def tell(row, epochs):
            print(row.step, flush=True)
        fit_small(small_settings(epochs=6, evaluations=6), Path(sys.argv[1]), on_evaluation=tell)
        """
    )
    checkpoint = tmp_path / "run.ckpt"
    command = [sys.executable, "-c", program, str(checkpoint), str(Path(__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stdout is not None
    for _ in range(2):
        assert process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    resumed = fit_small(small_settings(epochs=6, evaluations=6), checkpoint)
    assert same_weights(resumed, fit_small(small_settings(epochs=6, evaluations=6)))


@pytest.mark.parametrize(("name", "value"), [("crop", 40), ("patience", 3), ("seed", 1)])
def test_a_checkpoint_of_other_settings_is_refused_by_name(tmp_path: Path, name: str, value: int) -> None:
    fit_small(small_settings(epochs=1), tmp_path / "run.ckpt")
    with pytest.raises(DataError, match=name):
        fit_small(small_settings(epochs=1, **{name: value}), tmp_path / "run.ckpt")


def test_a_run_goes_on_with_another_memory_budget_and_other_workers(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        fit_small(small_settings(), tmp_path / "run.ckpt", on_step=die_at(10))
    resumed = fit_small(small_settings(memory_budget_mb=0, workers=1), tmp_path / "run.ckpt")
    assert_same_run(resumed, fit_small(small_settings()))


def test_a_run_goes_on_in_the_precision_that_auto_was_where_the_processor_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "bf16_supported", lambda: True)
    monkeypatch.setattr(precision, "bf16_pays", lambda: True)
    monkeypatch.setattr(training_loop, "bf16_supported", lambda: True)
    automatic = {"epochs": 1, "precision": "auto"}
    assert fit_small(small_settings(**automatic), tmp_path / "run.ckpt").precision == "bf16"
    fit_small(small_settings(epochs=1, precision="bf16"), tmp_path / "run.ckpt")
    with pytest.raises(DataError, match=r"precision: 'bf16', now 'fp32'"):
        fit_small(small_settings(epochs=1, precision="fp32"), tmp_path / "run.ckpt")
    # Timed once more, fp32 was faster: nothing to end a run over.
    monkeypatch.setattr(precision, "bf16_pays", lambda: False)
    assert fit_small(small_settings(**automatic), tmp_path / "run.ckpt").precision == "bf16"
    for module in (precision, training_loop):
        monkeypatch.setattr(module, "bf16_supported", lambda: False)
    with pytest.raises(DataError, match=r"precision: 'bf16', now 'fp32'"):
        fit_small(small_settings(**automatic), tmp_path / "run.ckpt")


def test_a_checkpoint_that_cannot_be_written_says_so_and_leaves_the_one_before_whole(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.ckpt"

    def fill_the_disk(step: int, total: int, loss: float) -> None:
        if step == 8:
            checkpoint.with_suffix(".partial").symlink_to("/dev/full")

    with pytest.raises(DataError, match=r"cannot be written.*resume"):
        fit_small(small_settings(), checkpoint, on_step=fill_the_disk)
    checkpoint.with_suffix(".partial").unlink()
    assert same_weights(fit_small(small_settings(), checkpoint), fit_small(small_settings()))


def test_a_run_that_had_ended_does_not_go_on_when_resumed(tmp_path: Path) -> None:
    settings = small_settings(epochs=40, evaluations=40, learning_rate=1e-9, patience=3)
    ended = fit_small(settings, tmp_path / "run.ckpt")
    resumed = fit_small(settings, tmp_path / "run.ckpt")
    assert (resumed.steps, resumed.stopped) == (ended.steps, ended.stopped)
    assert same_weights(resumed, ended)
