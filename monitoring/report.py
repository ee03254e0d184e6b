"""One report: the live images of a version in a window against the version's own reference.

    question = Question(version=find_version(client, "resunet"), window=window)
    answer = run_report(question, client=client, open_engine=open_log, experiment="resunet-monitoring")
    answer.drift.verdict, answer.run_id

Input descriptors are compared with those of the training images, prediction descriptors with those of the
held-out ones: on training images the network remembers.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric
from sqlalchemy import Engine

from monitoring.drift import Drift, Family, LeftOut, Rule, Values
from monitoring.explain import looks_like
from monitoring.families import CLUSTER, EMBEDDING, make_families
from monitoring.judge import judge
from monitoring.live import LIVE_ROUTES, RowCounts, count_rows, sample_rows
from monitoring.tracking import WatchedVersion, read_reference, report_run
from monitoring.window import Window
from monitoring.words import markdown, number, rule_text, shift_text, summary
from records.watch.reports import WindowReport, add_report
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS
from resunet.errors import VersionError

FORMAT_VERSION = 2
JSON_FILE = "drift.json"


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        min_rows: with fewer live rows there is no verdict.
        rule: what is worth an alarm.
        sample_rows: most rows a side that are looked at, drawn with the rule's seed.
    """

    version: WatchedVersion
    window: Window
    routes: tuple[str, ...] = LIVE_ROUTES
    min_rows: int = 20
    rule: Rule = field(default_factory=Rule)
    sample_rows: int = 10_000


@dataclass(frozen=True)
class Answer:
    """What came out.

    Attributes:
        counts: all rows of the window; at most `sample_rows` of the compared ones were looked at.
        not_compared: descriptors for which a side holds too few values.
        run_id: the MLflow run that keeps it.
    """

    question: Question
    drift: Drift
    counts: RowCounts
    not_compared: tuple[LeftOut, ...]
    run_id: str

    @property
    def headline(self) -> str:
        window, rows = self.question.window, self.counts.compared
        return f"{self.question.version}, {window}, {rows:,} images"

    @property
    def notes(self) -> list[str]:
        """What a reader must know besides the table."""
        notes = [f"Left out: {_left_out(self.counts)}."] if self.counts.left_out else []
        if self.counts.compared > self.question.sample_rows and self.drift.columns:
            looked_at = f"{self.question.sample_rows:,} of the {self.counts.compared:,}"
            notes.append(f"A sample of {looked_at} rows was compared.")
        if guesses := looks_like(self.drift):
            notes.insert(0, f"Looks like: {'; '.join(guesses)}.")
        notes += [f"{left.column} was not compared: {left.reason}." for left in self.not_compared]
        return notes

    def as_json(self) -> dict[str, Any]:
        """`drift.json`."""
        question = self.question
        return {
            "format_version": FORMAT_VERSION,
            "verdict": self.drift.verdict,
            "model_name": question.version.name,
            "model_version": question.version.version,
            "version_digest": question.version.digest,
            "window_start": question.window.start.isoformat(),
            "window_end": question.window.end.isoformat(),
            "routes": list(question.routes),
            "rows": self.counts.compared,
            "rows_needed": question.min_rows,
            "rows_looked_at": min(self.counts.compared, question.sample_rows),
            "rows_left_out": self.counts.left_out,
            **asdict(self.drift.rule),
            "p_value": self.drift.p_value,
            "share_drifted": self.drift.share_drifted,
            "looks_like": looks_like(self.drift),
            "tests": [asdict(test) for test in self.drift.tests],
            "columns": [asdict(column) for column in self.drift.columns],
            "not_compared": [asdict(left) for left in self.not_compared],
        }

    def as_row(self, made: datetime) -> WindowReport:
        """What the database keeps of it."""
        question, drift = self.question, self.drift
        return WindowReport(
            model_name=question.version.name,
            model_version=question.version.version,
            version_digest=question.version.digest,
            window_start=question.window.start,
            window_end=question.window.end,
            routes=question.routes,
            verdict=drift.verdict,
            p_value=drift.p_value,
            rows=self.counts.compared,
            moved=tuple(column.column for column in drift.moved),
            summary=too_few(self) if drift.verdict == "too few rows" else summary(drift),
            estimated_dice=None,
            estimated_low=None,
            estimated_high=None,
            run_id=self.run_id,
            made=made,
        )


def run_report(
    question: Question,
    *,
    client: MlflowClient,
    open_engine: Callable[[], Engine],
    experiment: str,
    folder: Path | None = None,
    workspace: Path | None = None,
    made: datetime | None = None,
) -> Answer:
    """Answer a question, and keep the answer in an MLflow run (FAILED when this fails) and in the log's database.

    Args:
        open_engine: opens the inference log, within the run: a database that is gone leaves a FAILED run.
        experiment: name of the MLflow experiment.
        folder: where the files go besides MLflow; made when missing.
        workspace: of Evidently, that the report is added to; made when missing.
        made: the time of the report; now, if it is not given.

    Raises:
        ResunetError: the log, MLflow or the version's reference cannot be used.
    """
    version, window = question.version, question.window
    tags = {
        "model_name": version.name,
        "model_version": version.version,
        "version_digest": version.digest or "unknown",
        "window_start": window.start.isoformat(),
        "window_end": window.end.isoformat(),
    }
    name = f"{version.name} {version.version} until {window.end:%Y-%m-%d %H:%M}"
    with report_run(client, experiment, name, tags) as run_id, tempfile.TemporaryDirectory() as scratch:
        files, inbox = Path(scratch, "report"), Path(scratch, "reference")
        files.mkdir()
        engine = open_engine()
        try:
            answer = _answer(question, client, engine, run_id, files, inbox, workspace)
            (files / JSON_FILE).write_text(json.dumps(answer.as_json(), indent=2, allow_nan=False) + "\n", "utf-8")
            _log(client, answer, files)
            if folder is not None:
                shutil.copytree(files, folder, dirs_exist_ok=True)
            # Last: whoever reads the row finds a run that has all its files.
            add_report(engine, answer.as_row(made or datetime.now(UTC)))
        finally:
            engine.dispose()
    return answer


def _answer(
    question: Question,
    client: MlflowClient,
    engine: Engine,
    run_id: str,
    files: Path,
    inbox: Path,
    workspace: Path | None,
) -> Answer:
    counts = count_rows(engine, question.version, question.window, question.routes)
    if counts.compared < question.min_rows:
        return Answer(question, Drift("too few rows", question.rule), counts, (), run_id)
    reference = read_reference(question.version, inbox, client.tracking_uri)
    families, not_compared = _families(question, engine, reference)
    drift = judge(families, question.rule)
    answer = Answer(question, drift, counts, tuple(not_compared), run_id)
    _draw(answer, {name: values for family in families for name, values in family.values.items()}, files, workspace)
    return answer


def _families(question: Question, engine: Engine, reference: pd.DataFrame) -> tuple[list[Family], list[LeftOut]]:
    live = sample_rows(
        engine,
        question.version,
        question.window,
        routes=question.routes,
        columns=(*IMAGE_DESCRIPTORS, *PREDICTION_DESCRIPTORS, "image_digest", "embedding"),
        limit=question.sample_rows,
        seed=question.rule.seed,
    )
    live[EMBEDDING] = live["embedding"].map(_unpacked)
    live[CLUSTER] = live["image_digest"]
    if len(reference) > question.sample_rows:
        reference = reference.sample(question.sample_rows, random_state=question.rule.seed)
    families, left_out = make_families(reference, live, min_live=question.min_rows)
    if not families:
        raise VersionError(
            f"nothing can be compared: {left_out[0].column}: {left_out[0].reason}. The reference of "
            f"{question.version} holds {int((reference['split'] == 'train').sum())} training images; train a version "
            "on more of them"
        )
    return families, left_out


def _unpacked(stored: bytes | None) -> Any:
    return None if stored is None else np.frombuffer(stored, "<f4")


def _draw(answer: Answer, values: dict[str, Values], files: Path, workspace: Path | None) -> None:
    from monitoring.evidently_report import Page, Row, run_evidently
    from monitoring.figure import PICTURE_FILE, draw

    drift = answer.drift
    rows = {
        c.column: Row(
            c.p_value, c.moved, c.effect, (number(c.reference_mean), number(c.live_mean), shift_text(c.shift))
        )
        for c in drift.columns
    }
    page = Page(answer.headline, f"{summary(drift)}. {rule_text(drift)}", drift.verdict, rows)
    snapshot = run_evidently(values, page, files, answer.question.window.end)
    if workspace is not None:
        from monitoring.workspace import keep_snapshot

        keep_snapshot(snapshot, workspace, answer.question.version.name)
    title = f"{answer.headline}: {len(drift.moved)} of {len(drift.columns)} descriptors moved"
    draw(values, drift, title=title, path=files / PICTURE_FILE)


def _log(client: MlflowClient, answer: Answer, files: Path) -> None:
    moment = int(answer.question.window.end.timestamp() * 1000)
    values = {
        "rows": float(answer.counts.compared),
        "rows_left_out": float(sum(answer.counts.left_out.values())),
    }
    if answer.drift.p_value is not None:
        values |= {"share_drifted": answer.drift.share_drifted, "drift.p_value": answer.drift.p_value}
    for test in answer.drift.tests:
        values[f"drift.test.{test.side}.{test.name}"] = test.p_value
    for column in answer.drift.columns:
        values[f"drift.effect.{column.column}"] = column.effect
        values[f"drift.p_value.{column.column}"] = column.p_value
    metrics = [Metric(name, value, moment, 0) for name, value in values.items()]
    client.log_batch(answer.run_id, metrics=metrics)
    client.log_artifacts(answer.run_id, str(files))
    note = markdown(answer.drift, answer.headline) if answer.drift.columns else too_few(answer)
    client.set_tag(answer.run_id, "mlflow.note.content", "\n\n".join([note, *answer.notes]))
    # Last: whoever searches for a verdict finds a run that has all its files.
    client.set_tag(answer.run_id, "verdict", answer.drift.verdict)


def too_few(answer: Answer) -> str:
    """Why there is no verdict, and what to do about it."""
    question = answer.question
    others = f" (left out: {_left_out(answer.counts)})" if answer.counts.left_out else ""
    return (
        f"too few rows: the window {question.window} holds {answer.counts.compared} rows of "
        f"{question.version}{others}; at least {question.min_rows} are needed. Ask for a longer "
        "--window, or check that the server logs to this database (RESUNET_INFERENCE_LOG)"
    )


def _left_out(counts: RowCounts) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.left_out.items())
