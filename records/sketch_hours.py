"""The sketches of a window, whoever has written the rows: whole hours as they are kept, all else counted from the rows.

    refresh(engine, "resunet", start, end)          # sums up again what does not fit its rows; how many hours it were
    groups = read_sketches(engine, "resunet", start, end)       # by version, digest, route, status and slice

An hour is taken from its sketches where they hold as many rows as the log does: other releases log without sketches,
and of hours in which something was forgotten there are none. Sketches that cannot be read are as if there were none.
All that is read is of one moment of the database.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Connection, Engine, delete, func, select, text
from sqlalchemy.exc import OperationalError

from records import sketches as table
from records.engines import explained, was_locked
from records.sketch import Sketch
from records.sketch_bins import FORMAT
from records.sketch_rows import CHUNK, TEXTS, Group, largest, names_in_rows, rows_by_hour, sketches_of_rows
from records.sketches import MOST_SLICES, Key, hour_of, shared, sketches, store
from resunet.errors import RecordsError

HOUR: Final = timedelta(hours=1)
_LOCK_WAIT: Final = "30s"

_log = logging.getLogger(__name__)


def refresh(engine: Engine, model_name: str, start: datetime, end: datetime) -> int:
    """Sum up again the whole hours of a window whose sketches do not fit the rows, and return how many they were.

    Rows wait to be stored while an hour is summed up, some seconds for a million rows; where this role may not write
    sketches, or somebody else keeps them locked, nothing is done.

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
        all_slices: each slice by its name, however many there are: each takes memory. Else the MOST_SLICES with most
            rows of a version, digest, route and status, and the others share one sketch.
        mend: `refresh` before, if there is need.

    Returns:
        a sketch a group, whose `hour` is the start of the window.

    Raises:
        RecordsError: a time has no zone, or the database does not answer.
    """
    whole = whole_hours(start, end)
    damaged, tried = set[datetime](), set[datetime]()
    with explained(engine):
        while True:
            with _one_moment(engine) as connection:
                stale = damaged.union(_stale(connection, model_name, *whole))
                # Tried: it may be that nothing could be mended, or that rows came meanwhile.
                if not mend or stale <= tried:
                    try:
                        return _sum_up(connection, model_name, (start, end), stale, all_slices)
                    except _DamagedError as error:
                        damaged |= error.hours
                        continue
            _mend(engine, model_name, sorted(stale - tried))
            tried |= stale
            damaged.clear()


class _DamagedError(Exception):
    """Of some hours there is a sketch that cannot be read."""

    def __init__(self, hours: set[datetime]) -> None:
        super().__init__(f"{len(hours)} hours")
        self.hours = hours


def _sum_up(
    connection: Connection,
    model_name: str,
    window: tuple[datetime, datetime],
    stale: Collection[datetime],
    all_slices: bool,
) -> dict[Key, Sketch]:
    """The hours that fit from their sketches, all else from the rows.

    Raises:
        _DamagedError: of hours that are not stale.
    """
    start, whole = window[0], whole_hours(*window)
    kept = _kept(connection, model_name, *whole, all_slices) - set(stale)
    gaps = list(_gaps(*window, kept))
    # Before anything is summed up: a sketch of each name that comes along would be too many.
    named = None if all_slices else _names_of(connection, model_name, whole, stale, gaps)
    found: dict[Key, Sketch] = {}
    damaged = set[datetime]()
    for key, rows, content in _stored(connection, model_name, *whole):
        if key.hour in kept:
            try:
                sketch = table.unpacked(rows, content)
            except RecordsError as error:
                _log.warning("the hour of %s is counted from its rows: %s", key.hour, error)
                damaged.add(key.hour)
                continue
            told_apart = named is None or key.slice is None or _group_of(key) in named
            _merge_into(found, (key if told_apart else shared(key))._replace(hour=start), sketch)
    if damaged:
        raise _DamagedError(damaged)
    for part in gaps:
        for key, sketch in sketches_of_rows(connection, model_name, *part, named):
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
        query = select(*table.KEY_COLUMNS, *table.CONTENT)
        query = query.where(*_of_hours(model_name, first, last), sketches.c.hour.not_in(stale))
        for *texts, rows, content in connection.execute(query, execution_options={"yield_per": CHUNK // 10}):
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
    for place, hour in enumerate(stale):
        try:
            _rebuild(engine, model_name, hour)
        except OperationalError as error:
            if not was_locked(error):
                raise
            # To wait for each of them would take hours of hours: they can be counted from the rows.
            _log.warning(
                "the sums of %d hours cannot be made now, since the table `sketches` was locked for longer than "
                "%s: they are counted from the rows this time",
                len(stale) - place,
                _LOCK_WAIT,
            )
            return place
    return len(stale)


def _rebuild(engine: Engine, model_name: str, hour: datetime) -> None:
    """Make an hour's sketches anew, while nobody changes any."""
    with engine.connect().execution_options(records_begin="BEGIN IMMEDIATE") as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'"))
            # Who stores rows now waits for this with those that one statement cannot see yet, and adds them then.
            connection.execute(text("LOCK TABLE sketches IN SHARE ROW EXCLUSIVE MODE"))
        made: dict[Key, Sketch] = {}
        named = set(names_in_rows(connection, model_name, hour, hour + HOUR))
        for key, sketch in sketches_of_rows(connection, model_name, hour, hour + HOUR, named):
            _merge_into(made, key, sketch)
        mine = (sketches.c.model_name == model_name, sketches.c.hour == hour, sketches.c.format == FORMAT)
        connection.execute(delete(sketches).where(*mine))
        store(connection, made)


def _stale(connection: Connection, model_name: str, first: datetime, last: datetime) -> list[datetime]:
    """Hours whose sketches and rows are not as many."""
    rows = rows_by_hour(connection, model_name, first, last)
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


def _held_by_hour(connection: Connection, model_name: str, first: datetime, last: datetime) -> dict[datetime, int]:
    if not table.readable(connection):
        return {}
    query = select(sketches.c.hour, func.sum(sketches.c.rows)).where(*_of_hours(model_name, first, last))
    return {hour: int(count) for hour, count in connection.execute(query.group_by(sketches.c.hour))}


def _stored(
    connection: Connection, model_name: str, first: datetime, last: datetime
) -> Iterator[tuple[Key, int, bytes]]:
    if first >= last or not table.readable(connection):
        return
    query = select(*table.KEY_COLUMNS, *table.CONTENT).where(*_of_hours(model_name, first, last))
    for *texts, rows, content in connection.execute(query, execution_options={"yield_per": CHUNK // 10}):
        yield Key(*texts), rows, content


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


def _names_of(
    connection: Connection,
    model_name: str,
    whole: tuple[datetime, datetime],
    stale: Collection[datetime],
    gaps: Sequence[tuple[datetime, datetime]],
) -> set[Group]:
    """The slices with most rows of a window: MOST_SLICES of a version, digest, route and status."""
    found = Counter[Group]()
    if whole[0] < whole[1] and table.readable(connection):
        hold = (*_of_hours(model_name, *whole), sketches.c.hour.not_in(stale), sketches.c.part.startswith(table.NAMED))
        columns = [sketches.c[name] for name in (*TEXTS[:-1], "part")]
        for (*others, part), count in largest(connection, columns, func.sum(sketches.c.rows), hold):
            found[(*others, str(part).removeprefix(table.NAMED))] += count
    for start, end in gaps:
        found.update(names_in_rows(connection, model_name, start, end))
    names, room = set[Group](), Counter[Group]()
    for group, _ in sorted(found.items(), key=lambda item: (-item[1], item[0])):
        room[group[:-1]] += 1
        if room[group[:-1]] <= MOST_SLICES:
            names.add(group)
    return names


def _group_of(key: Key) -> Group:
    return (key.model_version, key.model_digest, key.route, key.status, key.slice)


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
