"""Slow drift: whether the means of one version's images changed over the windows that closed one after the other.

    asked = TrendQuestion(version, until, timedelta(days=1))
    answer = run_trend(asked, client=client, engine=engine, experiment="resunet-monitoring")
    answer.verdict, answer.summary

The windows are of one length and do not overlap; those with too few rows are left out. Nothing but their sums is read
(`monitoring.streams`), so that a month of millions of rows costs what a day does. A trend is an alarm where hardly any
order of the windows would show as much by chance (`monitoring.statistics.trend`), and the change is worth one.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric
from sqlalchemy import Engine

from monitoring.course import Course, log_course
from monitoring.drift import Verdict
from monitoring.live import LIVE_ROUTES
from monitoring.pictures import TREND_PICTURE
from monitoring.statistics.trend import FEWEST_WINDOWS, trend_test
from monitoring.streams import read_stream
from monitoring.summary import Summary
from monitoring.tracking import WatchedVersion, report_run
from monitoring.window import MIN_ROWS, Window
from monitoring.words import label, number
from records.watch.reports import Kind, WindowReport, add_report
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS

JSON_FILE: Final = "trend.json"


@dataclass(frozen=True)
class TrendQuestion:
    """What is asked.

    Attributes:
        until: end of the last window, aware.
        length: of a window.
        windows: how many at most.
        min_rows: a window with fewer is left out.
        alpha: share of evaluations without a trend that may raise an alarm.
        min_change: smallest change worth an alarm, in standard deviations of the images of all windows.
        seed: of the permutations.
    """

    version: WatchedVersion
    until: datetime
    length: timedelta
    windows: int = 28
    routes: tuple[str, ...] = LIVE_ROUTES
    min_rows: int = MIN_ROWS
    alpha: float = 0.005
    min_change: float = 0.25
    seed: int = 0

    @property
    def span(self) -> Window:
        """From the first window to the last."""
        return Window.ending(self.until, self.length * self.windows)


@dataclass(frozen=True)
class Changed:
    """One descriptor.

    Attributes:
        p_value: for all descriptors together.
        change: from the first third of the windows to the last, in the descriptor's unit.
        deviations: the same in standard deviations of the images of all windows.
        turned: end of the window after which it changed most.
        means: of the windows, in their order.
    """

    column: str
    p_value: float
    change: float
    deviations: float
    turned: datetime
    alarm: bool
    means: tuple[float, ...] = ()


@dataclass(frozen=True)
class TrendAnswer:
    """What came out; `columns` is ranked, the largest change first; `ends` are of the windows that were compared."""

    question: TrendQuestion
    verdict: Verdict
    rows: int
    windows: int
    p_value: float | None
    columns: tuple[Changed, ...]
    run_id: str
    ends: tuple[datetime, ...] = ()

    @property
    def summary(self) -> str:
        """One line for people."""
        if self.verdict == "too few rows":
            return (
                f"too few rows: {self.windows} of the {self.question.windows} windows until "
                f"{self.question.until:%Y-%m-%d %H:%M} hold at least {self.question.min_rows} rows of "
                f"{self.question.version}, {FEWEST_WINDOWS} are needed"
            )
        moved = [one for one in self.columns if one.alarm]
        if not moved:
            return f"no trend over {self.windows} windows of {self.rows:,} images"
        return f"trend over {self.windows} windows: " + "; ".join(_said(one) for one in moved[:3])


def _said(one: Changed) -> str:
    way = "rose" if one.change > 0 else "fell"
    by = f"{number(abs(one.change))} ({one.deviations:+.1f} SD)"
    return f"{label(one.column)} {way} by {by}, most since {one.turned:%Y-%m-%d %H:%M}"


def run_trend(
    question: TrendQuestion,
    *,
    client: MlflowClient,
    engine: Engine,
    experiment: str,
    made: datetime | None = None,
    kind: Kind = "trend",
) -> TrendAnswer:
    """Answer a question, and keep the answer in an MLflow run and in the log's database.

    Args:
        kind: what it is kept as.

    Raises:
        ResunetError: the log or MLflow cannot be used.
    """
    version, span = question.version, question.span
    tags = {
        "model_name": version.name,
        "model_version": version.version,
        "window_start": span.start.isoformat(),
        "window_end": span.end.isoformat(),
    }
    name = f"{version.name} {version.version} trend until {span.end:%Y-%m-%d %H:%M}"
    with report_run(client, experiment, name, tags) as run_id:
        answer = _answer(question, _windows(question, engine), run_id)
        values = _log(client, answer)
        if kind == "trend":
            log_course(
                client, experiment, Course(version.name, "trends", question.length, question.routes), values, span.end
            )
        add_report(engine, _row(answer, made or datetime.now(UTC), kind))
    return answer


def _windows(question: TrendQuestion, engine: Engine) -> list[tuple[datetime, Summary]]:
    found = []
    for place in range(question.windows):
        start = question.span.start + place * question.length
        stream = read_stream(engine, question.version.name, Window(start, start + question.length))
        summary = stream.of(question.version, question.routes)
        if summary.rows >= question.min_rows:
            found.append((start, summary))
    return found


def _answer(question: TrendQuestion, windows: list[tuple[datetime, Summary]], run_id: str) -> TrendAnswer:
    rows = sum(summary.rows for _, summary in windows)
    if len(windows) < FEWEST_WINDOWS:
        return TrendAnswer(question, "too few rows", rows, len(windows), None, (), run_id)
    means, spread = _means(windows)
    if not means:
        return TrendAnswer(question, "too few rows", rows, len(windows), None, (), run_id)
    names = list(means)
    found = trend_test(np.stack([means[name] for name in names], axis=1), np.random.default_rng(question.seed))
    columns = []
    for place, name in enumerate(names):
        change, p_value = float(found.change[place]), float(found.columns_p[place])
        deviations = change / spread[name] if spread[name] > 0 else 0.0
        alarm = p_value <= question.alpha and abs(deviations) >= question.min_change
        turned = windows[found.turned[place]][0] + question.length
        columns.append(Changed(name, p_value, change, deviations, turned, alarm, tuple(means[name].tolist())))
    columns.sort(key=lambda one: (one.alarm, abs(one.deviations)), reverse=True)
    verdict: Verdict = "drift" if columns and columns[0].alarm else "no drift"
    ends = tuple(start + question.length for start, _ in windows)
    return TrendAnswer(question, verdict, rows, len(windows), found.p_value, tuple(columns), run_id, ends)


def _means(windows: list[tuple[datetime, Summary]]) -> tuple[dict[str, Any], dict[str, float]]:
    """Means of each window by descriptor, of those that every window has, and the spread of all images."""
    means, spread = {}, {}
    for name in (*IMAGE_DESCRIPTORS, *PREDICTION_DESCRIPTORS):
        columns = [summary[name] for _, summary in windows]
        values = np.array([column.mean for column in columns], dtype=np.float64)
        if np.isfinite(values).all():
            means[name] = values
            spread[name] = float(np.sqrt(np.mean([column.std**2 for column in columns]) + values.var()))
    return means, spread


def _log(client: MlflowClient, answer: TrendAnswer) -> Mapping[str, float]:
    """Keep an answer in its run; return the metrics that it has there."""
    moment = int(answer.question.until.timestamp() * 1000)
    values: Mapping[str, float] = {f"trend.change.{one.column}": one.deviations for one in answer.columns}
    if answer.p_value is not None:
        values = {**values, "trend.p_value": answer.p_value}
    client.log_batch(answer.run_id, metrics=[Metric(name, value, moment, 0) for name, value in values.items()])
    with tempfile.TemporaryDirectory() as folder:
        told = {
            "verdict": answer.verdict,
            "p_value": answer.p_value,
            "rows": answer.rows,
            "windows": answer.windows,
            "ends": [end.isoformat() for end in answer.ends],
            "columns": [asdict(one) | {"turned": one.turned.isoformat()} for one in answer.columns],
        }
        Path(folder, JSON_FILE).write_text(json.dumps(told, indent=2, allow_nan=False) + "\n", "utf-8")
        if answer.columns:
            _draw(answer, Path(folder, TREND_PICTURE))
        client.log_artifacts(answer.run_id, folder)
    client.set_tag(answer.run_id, "mlflow.note.content", answer.summary)
    client.set_tag(answer.run_id, "verdict", answer.verdict)
    return values


def _draw(answer: TrendAnswer, path: Path) -> None:
    # Matplotlib takes a while to import, and who asks for too few windows needs none of it.
    from monitoring.trend_figure import draw_trend

    question = answer.question
    told = {"drift": "a trend", "no drift": "no trend"}.get(answer.verdict, answer.verdict)
    title = f"{question.version}, means of {answer.windows} windows of {answer.rows:,} images: {told}"
    draw_trend(answer, title=title, path=path)


def _row(answer: TrendAnswer, made: datetime, kind: Kind) -> WindowReport:
    question = answer.question
    return WindowReport(
        model_name=question.version.name,
        model_version=question.version.version,
        version_digest=question.version.digest,
        window_start=question.span.start,
        window_end=question.span.end,
        routes=question.routes,
        verdict=answer.verdict,
        p_value=answer.p_value,
        rows=answer.rows,
        moved=tuple(one.column for one in answer.columns if one.alarm),
        summary=answer.summary,
        estimated_dice=None,
        estimated_low=None,
        estimated_high=None,
        run_id=answer.run_id,
        made=made,
        kind=kind,
    )
