"""Training that can be watched: a progress bar on a terminal, a line an evaluation elsewhere, metrics in MLflow."""

from pathlib import Path
from types import TracebackType

import mlflow
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.batches import SampleStore
from pipelines.fit import Evaluated, Fitted, fit
from pipelines.settings import FitSettings


def fit_with_progress(
    settings: FitSettings,
    training: SampleStore,
    validation: SampleStore,
    console: Console,
    *,
    checkpoint: Path | None = None,
    initial: Path | None = None,
) -> Fitted:
    """`fit`, drawn on the console, with its metrics in the active MLflow run."""
    with _FitProgress(console, settings.max_minutes) as progress:
        progress.decode(training, validation)

        def evaluated(result: Evaluated) -> None:
            progress.evaluated(result)
            metrics = {
                "train_loss": result.train_loss,
                "validation_dice": result.validation_dice,
                "learning_rate": result.learning_rate,
                "epoch": result.epoch,
            }
            mlflow.log_metrics(metrics, step=result.step)

        return fit(
            settings,
            training,
            validation,
            checkpoint=checkpoint,
            initial=initial,
            on_step=progress.stepped,
            on_evaluation=evaluated,
        )


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
            for store in stores:
                store.warm()
            return
        task = self._bar.add_task("decode", total=sum(len(store) for store in stores), told="")
        for store in stores:
            store.warm(lambda: self._bar.advance(task))
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
