"""Table `job_windows`: which windows of live rows are closed, which were reported, and what came late.

    with holding(engine, lease) as connection:                      # of records.watch.jobs
        close_windows(connection, job, [(start, end), …])
        for window in windows_since(connection, job, moment): …
        note(connection, window, reported=now, rows=120)

A row a window: its key is what makes a window be reported once. The table is made with the first one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from records.engines import explained
from records.schema import UtcTime, predictions

_AT_A_TIME: Final = 200

metadata = MetaData()

job_windows = Table(
    "job_windows",
    metadata,
    Column("job", Text, primary_key=True),
    Column("window_start", UtcTime, primary_key=True),
    Column("window_end", UtcTime, primary_key=True),
    Column("attempts", Integer, nullable=False),
    Column("reported", UtcTime),
    Column("rows", Integer),
    Column("revisions", Integer, nullable=False),
    Column("seen", Integer),
    Column("looked", UtcTime),
    Column("skipped", Boolean, nullable=False),
    Column("outcome", Text),
)


@dataclass(frozen=True)
class ClosedWindow:
    """A row of `job_windows`.

    Attributes:
        attempts: runs that were begun since it was last reported.
        reported: when it was last reported; None: it is to be.
        rows: of the model that the database held for it when that report began.
        revisions: how often it was reported again because of rows that came late.
        seen: rows that were counted at the last look for late ones.
        looked: when that was.
        skipped: it was too old when a schedule came to it, and is not reported any more.
        outcome: what the last run said.
    """

    job: str
    window_start: datetime
    window_end: datetime
    attempts: int = 0
    reported: datetime | None = None
    rows: int | None = None
    revisions: int = 0
    seen: int | None = None
    looked: datetime | None = None
    skipped: bool = False
    outcome: str | None = None


def close_windows(connection: Connection, job: str, windows: Sequence[tuple[datetime, datetime]]) -> None:
    """Add windows, start and end each, that are to be reported; one that is there already stays as it is."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = {"job": job, "attempts": 0, "revisions": 0, "skipped": False}
    for first in range(0, len(windows), _AT_A_TIME):
        part = windows[first : first + _AT_A_TIME]
        rows = [new | {"window_start": start, "window_end": end} for start, end in part]
        connection.execute(dialect.insert(job_windows).values(rows).on_conflict_do_nothing())


def windows_since(connection: Connection, job: str, moment: datetime) -> list[ClosedWindow]:
    """A job's windows that ended after a moment, and earlier ones that still wait; the oldest first."""
    table = job_windows.c
    wait = table.reported.is_(None) & table.skipped.is_(False)
    query = select(*(table[field.name] for field in fields(ClosedWindow)))
    query = query.where(table.job == job, (table.window_end > moment) | wait)
    return [ClosedWindow(*row) for row in connection.execute(query.order_by(table.window_end, table.window_start))]


def note(connection: Connection, window: ClosedWindow, **values: Any) -> None:
    """Change what is known of a window."""
    connection.execute(update(job_windows).where(*_this(window)).values(**values))


def drop_before(connection: Connection, job: str, moment: datetime) -> None:
    """Forget a job's windows that ended before a moment."""
    connection.execute(delete(job_windows).where(job_windows.c.job == job, job_windows.c.window_end < moment))


def rows_between(engine: Engine, model_name: str, start: datetime, end: datetime) -> int:
    """Count a model's rows in [start, end), whatever their version, route and status: the index alone tells.

    Raises:
        RecordsError: the database does not answer.
    """
    time = predictions.c.event_time
    chosen = (predictions.c.model_name == model_name, time >= start, time < end)
    with explained(engine), engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(predictions).where(*chosen)) or 0


def _this(window: ClosedWindow) -> tuple[ColumnElement[bool], ...]:
    keys = ("job", "window_start", "window_end")
    return tuple(job_windows.c[name] == getattr(window, name) for name in keys)
