"""The last windows, measured again and again: labels come late, and each changes the window of its image.

    done = measure_round(question, "24h", 14, engine=engine, client=client, experiment="resunet-monitoring")
    done.line

A window is kept in MLflow when it is first measured and whenever its figures have changed since, so that a round that
is made twice leaves nothing twice.
"""

from dataclasses import dataclass, replace

from mlflow import MlflowClient
from sqlalchemy import Engine

from monitoring.performance.report import NoLabelsError, Performance, PerformanceQuestion, log_figures, measure_window
from monitoring.performance.words import score_text
from monitoring.window import Window, parse_duration
from resunet.errors import SettingsError


@dataclass(frozen=True)
class Round:
    """What came of it.

    Attributes:
        measured: windows with labels that count, the oldest first.
        runs: of MLflow, of those whose figures are new.
        windows: how many were looked at.
        text: the length of each, as on the command line.
    """

    measured: tuple[Performance, ...]
    runs: tuple[str, ...]
    windows: int
    text: str

    @property
    def line(self) -> str:
        """In one line."""
        looked = f"the last {self.windows} windows of {self.text}"
        if not self.measured:
            return (
                f"nothing to measure: {looked} hold no labels that count. Choose images with `python -m monitoring "
                "pick`, and send their masks with `python -m monitoring label --csv`"
            )
        last = self.measured[-1]
        told = "; ".join(
            f"version {one.version}: Dice {score_text(one.dice, ' (')}) on {one.images:,} images"
            for one in last.measured
            if one.slice is None and one.route is None
        )
        return (
            f"{len(self.measured)} of {looked} hold labels that count, {len(self.runs)} runs with new figures; "
            f"{last.question.window}: {told}"
        )


def measure_round(
    question: PerformanceQuestion,
    text: str,
    count: int,
    *,
    engine: Engine,
    client: MlflowClient,
    experiment: str,
) -> Round:
    """Measure windows that lie end to end, and keep what is new in MLflow.

    Args:
        question: of the last of them.
        text: the length of each, as on the command line.
        count: how many.

    Raises:
        SettingsError: there are no such windows.
        RecordsError: the database does not answer.
        TrackingError: MLflow does not answer.
    """
    measured, runs = list[Performance](), list[str]()
    for window in _windows(question.window, count, text):
        try:
            done = measure_window(replace(question, window=window), engine)
        except NoLabelsError:
            continue
        measured.append(done)
        runs += log_figures(done, client, experiment, only_new=True)
    return Round(tuple(measured), tuple(runs), count, text)


def _windows(last: Window, count: int, text: str) -> list[Window]:
    """End to end, the oldest first."""
    length = parse_duration(text)
    try:
        return [Window.ending(last.end - place * length, length) for place in reversed(range(count))]
    except OverflowError:
        raise SettingsError(f"{count} windows of {text} begin before year 1: ask for fewer or shorter ones") from None
