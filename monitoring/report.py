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
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric
from sqlalchemy import Engine

from monitoring.answer import Answer, Question
from monitoring.course import Course, log_course
from monitoring.drift import FEW_GROUPS, ColumnDrift, Drift, Family, LeftOut, Values
from monitoring.families import ANSWER, EMBEDDING, WINDOW_SHORT, make_families
from monitoring.furthest import furthest
from monitoring.judge import answerable, judge
from monitoring.live import REFUSED
from monitoring.parts.breakdown import SLICE, LookedAt, divide
from monitoring.parts.pairs import KEY
from monitoring.parts.words import listed, sentences
from monitoring.performance.window_estimate import estimate
from monitoring.quality import Finding, findings, refusals
from monitoring.sampling import count_copies, sample_rows
from monitoring.sheet import SHEET_FILE, Kept, draw_sheet
from monitoring.streams import Stream, read_stream
from monitoring.summary import ColumnSummary
from monitoring.tracking import read_reference, report_run
from monitoring.words import markdown, number, rule_text, shift_text, summary
from records.watch.reports import Kind, add_report
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS
from resunet.errors import VersionError

JSON_FILE = "drift.json"
# Of so many of the furthest images those are shown that are kept.
LOOKED_THROUGH = 200


@dataclass(frozen=True)
class Places:
    """What a report finds and leaves on this machine.

    Attributes:
        folder: for its files, besides MLflow; made when missing.
        workspace: of Evidently, that it is added to; made when missing.
        data: the data set that the version was trained on, for pictures.
        kept: gives an answer's image as it was sent, where it is kept.
    """

    folder: Path | None = None
    workspace: Path | None = None
    data: Path | None = None
    kept: Kept = lambda answer: None


def run_report(
    question: Question,
    *,
    client: MlflowClient,
    open_engine: Callable[[], Engine],
    experiment: str,
    places: Places | None = None,
    made: datetime | None = None,
    kind: Kind = "window",
) -> Answer:
    """Answer a question, and keep the answer in an MLflow run (FAILED when this fails) and in the log's database.

    Args:
        open_engine: opens the inference log, within the run: a database that is gone leaves a FAILED run.
        experiment: name of the MLflow experiment.
        places: what it finds and leaves on this machine.
        made: the time of the report; now, if it is not given.
        kind: what it is kept as.

    Raises:
        ResunetError: the log, MLflow or the version's reference cannot be used.
    """
    version, window, places = question.version, question.window, places or Places()
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
            answer = _answer(question, client, engine, run_id, files, inbox, places)
            (files / JSON_FILE).write_text(json.dumps(answer.as_json(), indent=2, allow_nan=False) + "\n", "utf-8")
            values = _log(client, answer, files)
            if kind == "window":
                course = Course(version.name, "windows", window.end - window.start, question.routes)
                log_course(client, experiment, course, values, window.end)
            if places.folder is not None:
                shutil.copytree(files, places.folder, dirs_exist_ok=True)
            # Last: whoever reads the row finds a run that has all its files.
            add_report(engine, answer.as_row(made or datetime.now(UTC), kind))
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
    places: Places,
) -> Answer:
    stream = read_stream(engine, question.version.name, question.window)
    counts = stream.counts(question.version, question.routes)
    refused = refusals(counts.left_out.get(REFUSED, 0), counts.compared, question.min_rows)
    if counts.compared < question.min_rows:
        return Answer(question, _too_few(question, [refused]), counts, (), run_id)
    reference = read_reference(question.version, inbox, client.tracking_uri)
    live = _live(question, engine)
    families, not_compared = _families(question, reference, live)
    copies = None
    if counts.compared > question.sample_rows:
        copies = count_copies(engine, question.version, question.window, routes=question.routes)
    quality = _quality(reference, live, refused, copies)
    if not families:
        return Answer(question, _too_few(question, quality), counts, tuple(not_compared), run_id)
    drift = judge(families, question.rule, quality)
    if counts.compared > question.sample_rows:
        drift = with_all_rows(drift, stream, question)
    guess = estimate(
        question.version,
        live,
        drifted=drift.verdict == "drift",
        folder=inbox,
        tracking_uri=client.tracking_uri,
        seed=question.rule.seed,
    )
    parts = divide(question, drift, LookedAt(reference, live, tuple(families), counts), engine)
    answer = Answer(question, drift, counts, tuple(not_compared), run_id, guess, parts)
    _draw(answer, {name: values for family in families for name, values in family.values.items()}, files, places)
    if places.folder is not None and families[0].side == "input":
        # Not for MLflow: neither retention nor `forget` would find the images there.
        far = furthest(families[0], LOOKED_THROUGH, question.rule.seed)
        title = f"Furthest from the reference: {answer.headline}"
        places.folder.mkdir(parents=True, exist_ok=True)
        draw_sheet(far, places.kept, places.data, title=title, path=places.folder / SHEET_FILE)
    return answer


def with_all_rows(drift: Drift, stream: Stream, question: Question) -> Drift:
    """The same with live means of all rows, from their sums, in the place of those of the sample."""
    everything = stream.of(question.version, question.routes)
    return replace(drift, columns=tuple(_of_all(column, everything[column.column]) for column in drift.columns))


def _of_all(column: ColumnDrift, live: ColumnSummary) -> ColumnDrift:
    if not live.count:
        return column
    shift = (live.mean - column.reference_mean) / column.reference_std if column.reference_std > 0 else None
    return replace(column, live_mean=live.mean, shift=shift, live_rows=live.count)


def _too_few(question: Question, quality: list[Finding]) -> Drift:
    """Without a test; images that are at fault are a verdict all the same."""
    alarm = any(finding.alarm for finding in quality)
    return Drift(
        "drift" if alarm else "too few rows", question.rule, quality=tuple(one for one in quality if one.images)
    )


def _quality(
    reference: pd.DataFrame, live: pd.DataFrame, refused: Finding, copies: tuple[int, int] | None
) -> list[Finding]:
    found = findings(reference[reference["split"] == "train"], live, copies=copies)
    return [refused, *found] if refused.images else found


def _live(question: Question, engine: Engine) -> pd.DataFrame:
    live = sample_rows(
        engine,
        question.version,
        question.window,
        routes=question.routes,
        columns=(*IMAGE_DESCRIPTORS, *PREDICTION_DESCRIPTORS, ANSWER, *KEY, SLICE, "embedding"),
        limit=question.sample_rows,
        seed=question.rule.seed,
    )
    live[EMBEDDING] = live["embedding"].map(_unpacked)
    return live


def _families(question: Question, reference: pd.DataFrame, live: pd.DataFrame) -> tuple[list[Family], list[LeftOut]]:
    if len(reference) > question.sample_rows:
        reference = reference.sample(question.sample_rows, random_state=question.rule.seed)
    found, left_out = make_families(reference, live, min_live=question.min_rows)
    families, unanswerable = answerable(found, question.rule)
    left_out += unanswerable
    if not families and not any(short in left.reason for left in left_out for short in (WINDOW_SHORT, FEW_GROUPS)):
        raise VersionError(
            f"nothing can be compared: {left_out[0].column}: {left_out[0].reason}. The reference of "
            f"{question.version} holds {int((reference['split'] == 'train').sum())} training images; train a version "
            "on more of them"
        )
    return families, left_out


def _unpacked(stored: bytes | None) -> Any:
    return None if stored is None else np.frombuffer(stored, "<f4")


def _draw(answer: Answer, values: dict[str, Values], files: Path, places: Places) -> None:
    from monitoring.evidently_report import Page, Row, run_evidently
    from monitoring.figure import PICTURE_FILE, draw

    drift = answer.drift
    rows = {
        c.column: Row(
            c.p_value, c.moved, c.effect, (number(c.reference_mean), number(c.live_mean), shift_text(c.shift))
        )
        for c in drift.columns
    }
    tables = tuple(listed(answer.parts, drifted=drift.verdict == "drift"))
    said = " ".join([f"{summary(drift)}.", *sentences(answer.parts), rule_text(drift)])
    page = Page(answer.headline, said, drift.verdict, rows, tables)
    snapshot = run_evidently(values, page, files, answer.question.window.end)
    if places.workspace is not None:
        from monitoring.workspace import keep_snapshot

        keep_snapshot(snapshot, places.workspace, answer.question.version.name)
    title = f"{answer.headline}: {len(drift.moved)} of {len(drift.columns)} descriptors moved"
    draw(values, drift, title=title, path=files / PICTURE_FILE)


def _log(client: MlflowClient, answer: Answer, files: Path) -> dict[str, float]:
    """Keep an answer in its run; return the metrics that it has there."""
    moment = int(answer.question.window.end.timestamp() * 1000)
    values = {
        "rows": float(answer.counts.compared),
        "rows_left_out": float(sum(answer.counts.left_out.values())),
    }
    if answer.drift.p_value is not None:
        values |= {"share_drifted": answer.drift.share_drifted, "drift.p_value": answer.drift.p_value}
    if answer.estimate.declined is None:
        guess = answer.estimate
        values |= {"dice.estimated": guess.dice, "dice.estimated.low": guess.low, "dice.estimated.high": guess.high}
    for test in answer.drift.tests:
        values[f"drift.test.{test.side}.{test.name}"] = test.p_value
    for column in answer.drift.columns:
        values[f"drift.effect.{column.column}"] = column.effect
        values[f"drift.p_value.{column.column}"] = column.p_value
    metrics = [Metric(name, value, moment, 0) for name, value in values.items()]
    client.log_batch(answer.run_id, metrics=metrics)
    client.log_artifacts(answer.run_id, str(files))
    note = markdown(answer.drift, answer.headline) if answer.drift.columns else answer.summary
    client.set_tag(answer.run_id, "mlflow.note.content", "\n\n".join([note, *answer.notes]))
    # Last: whoever searches for a verdict finds a run that has all its files.
    client.set_tag(answer.run_id, "verdict", answer.drift.verdict)
    return values
