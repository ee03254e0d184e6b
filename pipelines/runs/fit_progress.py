"""Training that can be watched: a progress bar on a terminal, a line an evaluation elsewhere, metrics in MLflow."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pandas as pd
from mlflow import MlflowClient
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.data.dataset import Sample
from pipelines.runs.metric_log import MetricLog
from pipelines.training.batches import SampleStore, sample_store
from pipelines.training.fit import Epoch, Evaluated, Fitted, fit
from pipelines.training.settings import FitSettings

# Fewer steps than this are a trial of the commands, whatever the data.
FEW_STEPS = 50


def fit_with_progress(
    settings: FitSettings,
    training: Sequence[Sample],
    validation: Sequence[Sample],
    manifest: pd.DataFrame,
    console: Console,
    run_id: str,
    *,
    checkpoint: Path | None = None,
    initial: Path | None = None,
) -> Fitted:
    """`fit`, drawn on the console, with its metrics in an MLflow run.

    Raises:
        MlflowException: training ended, and the tracking server is away and does not have all metrics.
    """

    def tell(line: str) -> None:
        console.print(escape(line), style="yellow", soft_wrap=True)

    stores = shared_stores(training, validation, manifest, settings.memory_budget_mb)
    with MetricLog(MlflowClient(), run_id, tell) as log:
        with _FitProgress(console, settings.max_minutes) as progress:
            progress.decode(*stores)

            def evaluated(result: Evaluated, epochs: Sequence[Epoch]) -> None:
                progress.evaluated(result)
                for epoch in epochs:
                    log.add(epoch.step, _of_epoch(epoch))
                log.add(result.step, _metrics(result))

            fitted = fit(
                settings,
                *stores,
                checkpoint=checkpoint,
                initial=initial,
                on_step=progress.stepped,
                on_evaluation=evaluated,
            )
        log.fill({row.step: _metrics(row) for row in fitted.history})
        log.fill({row.step: _of_epoch(row) for row in fitted.epochs})
    if fitted.steps < FEW_STEPS:
        tell(f"only {fitted.steps} steps were taken: this network has hardly learnt; give it more minutes or epochs")
    return fitted


def shared_stores(
    training: Sequence[Sample], validation: Sequence[Sample], manifest: pd.DataFrame, budget_mb: int
) -> tuple[SampleStore, SampleStore]:
    """Both splits as pixels under one budget; training, which is read most, has it first."""
    first = sample_store(training, manifest, budget_mb)
    left = budget_mb - -(-first.kept_bytes // 1_000_000)
    return first, sample_store(validation, manifest, left)


def _metrics(row: Evaluated) -> dict[str, float]:
    return {
        "validation_dice": row.validation_dice,
        "train_loss": row.train_loss,
        "learning_rate": row.learning_rate,
        "epoch": row.epoch,
    }


def _of_epoch(row: Epoch) -> dict[str, float]:
    return {"epoch_loss": row.loss, "epoch_learning_rate": row.learning_rate}


class _FitProgress:
    def __init__(self, console: Console, max_minutes: float) -> None:
        self._console = console
        self._limit = f", at most {max_minutes:g} min" if max_minutes else ""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = None if not console.is_terminal else self._bar.add_task("train", total=None, told="")
        self._best = 0.0

    def __enter__(self) -> "_FitProgress":
        if self._task is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._bar.stop()

    def decode(self, *stores: SampleStore) -> None:
        """Decode what is kept in memory."""
        if self._task is None:
            for each in stores:
                each.warm()
            return
        task = self._bar.add_task("decode", total=sum(map(len, stores)), told="")
        for each in stores:
            each.warm(lambda: self._bar.advance(task))
        self._bar.remove_task(task)

    def stepped(self, step: int, total: int, loss: float) -> None:
        if self._task is not None:
            told = f"loss {loss:.3f}  Dice {self._best:.4f}{self._limit}"
            self._bar.update(self._task, completed=step, total=total, told=told)

    def evaluated(self, result: Evaluated) -> None:
        self._best = max(self._best, result.validation_dice)
        if self._task is None:
            self._console.print(
                f"step {result.step} (epoch {result.epoch:.1f}, {result.seconds:.0f} s): loss "
                f"{result.train_loss:.4f}, validation Dice {result.validation_dice:.4f}"
            )
