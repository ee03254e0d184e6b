"""What a training tells while it goes on, and what it may keep in memory."""

import io
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import torch
from dataset_factory import make
from mlflow import MlflowClient
from rich.console import Console

from pipelines.data.data_step import PreparedData, prepare_data
from pipelines.runs.fit_progress import fit_with_progress, shared_stores
from pipelines.training.fit import Fitted
from pipelines.training.settings import FitSettings


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare_data(str(make(tmp_path_factory.mktemp("data") / "data", 30)))


def test_both_splits_share_one_memory_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepare_data(str(make(tmp_path / "data", 30)))
    # Each image of training takes 1 MB now, each of validation 0.5 MB.
    training, validation = data.split("train"), data.split("validation")
    large = data.manifest["split"] == "train"
    data.manifest.loc[large, ["width", "height"]] = 500
    data.manifest.loc[~large, ["width", "height"]] = [500, 250]
    first, second = len(training), -(-len(validation) // 2)

    def in_memory(budget: int) -> tuple[bool, bool]:
        stores = shared_stores(training, validation, data.manifest, budget)
        return stores[0].in_memory, stores[1].in_memory

    assert in_memory(first + second) == (True, True)
    assert in_memory(first + second - 1) == (True, False)
    assert in_memory(first) == (True, False)
    assert in_memory(0) == (False, False)


def _fitted(
    data: PreparedData, run: str, printed: io.StringIO, *, terminal: bool = False, **settings: object
) -> Fitted:
    small = FitSettings.checked(**{"width": 2, "crop": 16, "batch_size": 2, "evaluations": 2, **settings})
    console = Console(file=printed, width=200, force_terminal=terminal)
    return fit_with_progress(small, data.split("train"), data.split("validation"), data.manifest, console, run)


@pytest.fixture(scope="module")
def new_run(tracking_uri: str) -> Callable[[], str]:
    mlflow.set_tracking_uri(tracking_uri)
    experiment = MlflowClient().create_experiment("fit progress")
    return lambda: str(MlflowClient().create_run(experiment).info.run_id)


def test_a_data_set_that_is_streamed_gives_the_weights_of_one_in_memory(
    data: PreparedData, new_run: Callable[[], str]
) -> None:
    kept = _fitted(data, new_run(), io.StringIO(), max_steps=12)
    streamed = _fitted(data, new_run(), io.StringIO(), max_steps=12, memory_budget_mb=0, workers=2)
    mine, other = kept.network.state_dict(), streamed.network.state_dict()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert [row.validation_dice for row in kept.history] == [row.validation_dice for row in streamed.history]


def test_a_run_of_a_few_steps_is_called_what_it_is(data: PreparedData, new_run: Callable[[], str]) -> None:
    for steps, evaluated in ((2, [2]), (60, [30, 60])):
        run, printed = new_run(), io.StringIO()
        fitted = _fitted(data, run, printed, max_steps=steps)
        assert [row.step for row in MlflowClient().get_metric_history(run, "train_loss")] == evaluated
        epochs = [(row.step, row.value) for row in MlflowClient().get_metric_history(run, "epoch_loss")]
        assert epochs == [(row.step, row.loss) for row in fitted.epochs] and (len(epochs) > 2) == (steps == 60)
        assert ("only 2 steps were taken" in printed.getvalue()) == (steps == 2)


def test_a_terminal_has_a_bar_of_steps_and_elsewhere_there_is_a_line_an_evaluation(
    data: PreparedData, new_run: Callable[[], str]
) -> None:
    lines, drawn = io.StringIO(), io.StringIO()
    fitted = _fitted(data, new_run(), lines, max_steps=60)
    _fitted(data, new_run(), drawn, terminal=True, max_steps=60)
    told = [line for line in lines.getvalue().splitlines() if line.startswith("step ")]
    assert len(told) == 2 and f"validation Dice {fitted.history[-1].validation_dice:.4f}" in told[-1]
    bar = drawn.getvalue()
    first = fitted.history[0].validation_dice
    assert "60/60" in bar and "loss " in bar and f"Dice {first:.4f}" in bar and "step 30 (epoch" not in bar
