"""The sketches of a window, whoever has written the rows: whole hours as they are kept, all else counted from the rows.

    refresh(engine, "resunet", start, end)          # sums up again what does not fit its rows; how many hours it were
    groups = read_sketches(engine, "resunet", start, end)       # by version, digest, route, status and slice

An hour is taken from its sketches where they hold as many rows as the log does: other releases log without sketches,
and of hours in which something was forgotten there are none. All that is read is of one moment of the database.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from sqlalchemy import ColumnElement, Connection, Engine, delete, func, select, text

from records import sketches as table
from records.engines import explained
from records.schema import predictions
from records.sketch import Sketch
from records.sketch_bins import COLUMNS, FORMAT
from records.sketches import Key, capped, grouped, hour_of, part_of, sketches, store
from resunet.errors import RecordsError

HOUR: Final = timedelta(hours=1)
_CHUNK: Final = 10_000
_LOCK_WAIT: Final = "30s"
_TEXTS: Final = ("model_version", "model_digest", "route", "status", "slice")


def refresh(engine: Engine, model_name: str, start: datetime, end: datetime) -> int:
    """Sum up again the whole hours of a window whose sketches do not fit the rows, and return how many they were.

    Rows wait to be stored while an hour is summed up, some seconds for a million rows; where this role may not write
    sketches, nothing is done.

    Raises:
        RecordsError: a time has no zone, or the database does not answer.
    """
    with explained(engine):
        with _one_moment(engine) as connection:
            stale = _stale(connection, model_name, *whole_hours(start, end))
        return _mend(engine, model_name, stale)


def read_sketches(
    engine: Engine, model_name: str, start: datetime, end: datetime, *, all_slices: bool = False, mend: bool = False
) -> dict[Key, Sketch]:
    """Sum a window up; memory does not grow with its rows.

    Args:
        start, end: aware; the end is not part of the window.
        all_slices: each slice by its name, however many there are; else those that are too many of an hour share one.
        mend: `refresh` before, if there is need.

    Returns:
        a sketch a group, whose `hour` is the start of the window.

    Raises:
        RecordsError: a time has no zone, or the database does not answer.
    """
    whole = whole_hours(start, end)
    with explained(engine):
        with _one_moment(engine) as connection:
            stale = _stale(connection, model_name, *whole)
            if not (stale and mend):
                return _sum_up(connection, model_name, (start, end), stale, all_slices)
        _mend(engine, model_name, stale)
        with _one_moment(engine) as connection:
            # It may be that nothing could be mended, or that rows came meanwhile.
            stale = _stale(connection, model_name, *whole)
            return _sum_up(connection, model_name, (start, end), stale, all_slices)


def _sum_up(
    connection: Connection,
    model_name: str,
    window: tuple[datetime, datetime],
    stale: Sequence[datetime],
    all_slices: bool,
) -> dict[Key, Sketch]:
    """The hours that fit from their sketches, all else from the rows."""
    start, whole = window[0], whole_hours(*window)
    kept = _kept(connection, model_name, *whole, all_slices) - set(stale)
    found: dict[Key, Sketch] = {}
    for key, content in _stored(connection, model_name, *whole):
        if key.hour in kept:
            _merge_into(found, key._replace(hour=start), Sketch.from_bytes(content))
    for part in _gaps(*window, kept):
        for key, sketch in _of_rows(connection, model_name, *part, every=all_slices):
            _merge_into(found, key._replace(hour=start), sketch)
    return found


def each_hour(
    engine: Engine, model_name: str, first: datetime, last: datetime, take: Callable[[Key, int, bytes], None]
) -> list[datetime]:
    """Hand out the sketches of whole hours as they are kept: nothing is merged, mended or read from rows.

    Args:
        first, last: full hours; the last is not part of it.
        take: is given what a sketch sums up, how many rows, and the sketch's bytes.

    Returns:
        the hours whose sketches do not fit their rows; none of theirs is handed out.

    Raises:
        RecordsError: the database does not answer.
    """
    with explained(engine), _one_moment(engine) as connection:
        stale = _stale(connection, model_name, first, last)
        if not table.readable(connection):
            return stale
        query = select(*table.KEY_COLUMNS, sketches.c.rows, sketches.c.content)
        query = query.where(*_of_hours(model_name, first, last), sketches.c.hour.not_in(stale))
        for *texts, rows, content in connection.execute(query, execution_options={"yield_per": _CHUNK // 10}):
            take(Key(*texts), int(rows), content)
    return stale


def whole_hours(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The hours that lie in a window as a whole; where none does, the first is not before the last.

    Raises:
        RecordsError: a time has no zone.
    """
    if start.tzinfo is None or end.tzinfo is None:
        raise RecordsError("a window needs aware times: pass datetime.now(UTC)")
    first = hour_of(start)
    return (first if first == start else first + HOUR), hour_of(end)


def _mend(engine: Engine, model_name: str, stale: Sequence[datetime]) -> int:
    """Sum hours up again where this role may, and return how many."""
    if not stale or not table.prepare(engine):
        return 0
    with engine.connect() as connection:
        if not table.replaceable(connection):
            return 0
    for hour in stale:
        _rebuild(engine, model_name, hour)
    return len(stale)


def _rebuild(engine: Engine, model_name: str, hour: datetime) -> None:
    """Make an hour's sketches anew, while nobody changes any."""
    with engine.connect().execution_options(records_begin="BEGIN IMMEDIATE") as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'"))
            # Who stores rows now waits for this with those that one statement cannot see yet, and adds them then.
            connection.execute(text("LOCK TABLE sketches IN SHARE ROW EXCLUSIVE MODE"))
        made: dict[Key, Sketch] = {}
        for key, sketch in _of_rows(connection, model_name, hour, hour + HOUR, every=False):
            _merge_into(made, key, sketch)
        mine = (sketches.c.model_name == model_name, sketches.c.hour == hour, sketches.c.format == FORMAT)
        connection.execute(delete(sketches).where(*mine))
        store(connection, capped(made))


def _stale(connection: Connection, model_name: str, first: datetime, last: datetime) -> list[datetime]:
    """Hours whose sketches and rows are not as many."""
    rows = _rows_by_hour(connection, model_name, first, last)
    held = _held_by_hour(connection, model_name, first, last)
    return sorted(hour for hour in rows.keys() | held.keys() if rows.get(hour, 0) != held.get(hour, 0))


def _kept(connection: Connection, model_name: str, first: datetime, last: datetime, all_slices: bool) -> set[datetime]:
    """The whole hours that are taken from their sketches if those fit; also those without any row."""
    if first >= last or not table.readable(connection):
        return set()
    hours = {first + number * HOUR for number in range((last - first) // HOUR)}
    if all_slices:
        shared = select(sketches.c.hour).where(
            *_of_hours(model_name, first, last), sketches.c.part == table.OTHER_SLICES
        )
        hours -= set(connection.scalars(shared))
    return hours


def _rows_by_hour(connection: Connection, model_name: str, first: datetime, last: datetime) -> dict[datetime, int]:
    if first >= last:
        return {}
    time = predictions.c.event_time
    hour: ColumnElement[Any]
    if connection.dialect.name == "postgresql":
        # Without the zone it would depend on the session's.
        hour = func.date_trunc("hour", func.timezone("UTC", time))
    else:
        hour = func.substr(time, 1, len("YYYY-MM-DD HH"))
    # Of the index alone.
    mine = (predictions.c.model_name == model_name, time >= first, time < last)
    query = select(hour.label("hour"), func.count()).where(*mine).group_by("hour")
    return {_as_hour(found): count for found, count in connection.execute(query)}


def _as_hour(found: Any) -> datetime:
    moment = found if isinstance(found, datetime) else datetime.fromisoformat(f"{found}:00")
    return moment.replace(tzinfo=UTC)


def _held_by_hour(connection: Connection, model_name: str, first: datetime, last: datetime) -> dict[datetime, int]:
    if not table.readable(connection):
        return {}
    query = select(sketches.c.hour, func.sum(sketches.c.rows)).where(*_of_hours(model_name, first, last))
    return {hour: int(count) for hour, count in connection.execute(query.group_by(sketches.c.hour))}


def _stored(connection: Connection, model_name: str, first: datetime, last: datetime) -> Iterator[tuple[Key, bytes]]:
    if first >= last or not table.readable(connection):
        return
    query = select(*table.KEY_COLUMNS, sketches.c.content).where(*_of_hours(model_name, first, last))
    for *texts, content in connection.execute(query, execution_options={"yield_per": _CHUNK // 10}):
        yield Key(*texts), content


def _of_hours(model_name: str, first: datetime, last: datetime) -> Sequence[ColumnElement[bool]]:
    hour = sketches.c.hour
    return (sketches.c.model_name == model_name, hour >= first, hour < last, sketches.c.format == FORMAT)


def _gaps(start: datetime, end: datetime, kept: set[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """What of a window is not in the hours that are kept, an hour at a time at most."""
    at = start
    while at < end:
        until = min(hour_of(at) + HOUR, end)
        if at not in kept:
            yield at, until
        at = until


def _of_rows(
    connection: Connection, model_name: str, start: datetime, end: datetime, *, every: bool
) -> Iterator[tuple[Key, Sketch]]:
    """Sketches of the rows of a part of an hour, some for each chunk."""
    mine = (predictions.c.model_name == model_name, predictions.c.event_time >= start, predictions.c.event_time < end)
    query = select(*(predictions.c[name] for name in (*_TEXTS, *COLUMNS))).where(*mine)
    size = len(_TEXTS)
    for part in connection.execute(query, execution_options={"yield_per": _CHUNK}).partitions():
        # None becomes NaN.
        values = np.array([row[size:] for row in part], dtype=np.float64)
        for (version, digest, route, status, name), sketch in grouped([row[:size] for row in part], values).items():
            yield Key(model_name, hour_of(start), version, digest, route, status, part_of(name, every=every)), sketch


def _merge_into(found: dict[Key, Sketch], key: Key, sketch: Sketch) -> None:
    found[key] = found[key].merge(sketch) if key in found else sketch


@contextmanager
def _one_moment(engine: Engine) -> Iterator[Connection]:
    """A transaction whose statements all see the same."""
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection
