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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric
from sqlalchemy import Engine

from monitoring.answer import Answer, Question
from monitoring.compare import compare, of_too_few
from monitoring.course import Course, log_course
from monitoring.drift import Values
from monitoring.furthest import furthest
from monitoring.parts.breakdown import LookedAt, divide
from monitoring.parts.words import listed, sentences
from monitoring.performance.window_estimate import estimate
from monitoring.pictures import DRIFT_PICTURE
from monitoring.sheet import SHEET_FILE, Kept, draw_sheet
from monitoring.streams import read_stream
from monitoring.tracking import read_reference, report_run
from monitoring.words import markdown, number, rule_text, shift_text, summary
from records.watch.reports import Kind, add_report

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
    if counts.compared < question.min_rows:
        return Answer(question, of_too_few(question, counts), counts, (), run_id)
    reference = read_reference(question.version, inbox, client.tracking_uri)
    compared = compare(question, engine, stream, reference)
    drift, live, families = compared.drift, compared.live, compared.families
    if not families:
        return Answer(question, drift, counts, compared.left_out, run_id)
    guess = estimate(
        question.version,
        live,
        drifted=drift.verdict == "drift",
        folder=inbox,
        tracking_uri=client.tracking_uri,
        seed=question.rule.seed,
    )
    parts = divide(question, drift, LookedAt(reference, live, families, counts), engine)
    answer = Answer(question, drift, counts, compared.left_out, run_id, guess, parts)
    _draw(answer, {name: values for family in families for name, values in family.values.items()}, files, places)
    if places.folder is not None and families[0].side == "input":
        # Not for MLflow: neither retention nor `forget` would find the images there.
        far = furthest(families[0], LOOKED_THROUGH, question.rule.seed)
        title = f"Furthest from the reference: {answer.headline}"
        places.folder.mkdir(parents=True, exist_ok=True)
        draw_sheet(far, places.kept, places.data, title=title, path=places.folder / SHEET_FILE)
    return answer


def _draw(answer: Answer, values: dict[str, Values], files: Path, places: Places) -> None:
    from monitoring.evidently_report import Page, Row, run_evidently
    from monitoring.figure import draw

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
    draw(values, drift, title=title, path=files / DRIFT_PICTURE)


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
