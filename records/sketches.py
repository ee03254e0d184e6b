"""Sums of the inference log, an hour at a time, kept up as rows arrive: what a window is made of without reading it.

    with adding(engine) as connection:
        …                                   # insert rows
        add(connection, rows)               # those that were new: in the same transaction, so that each counts once
    with forgetting(engine) as connection:
        drop(connection, rows)              # their hours are to be summed up again, by whoever reads them next

Table `sketches` has a row for each model, version, route, status and slice of an hour (UTC), with a `records.sketch`
in it. Whoever reads them compares them with the number of rows of the hour (`records.sketch_hours`): releases before
this one log without them, and a role that only logs may lack the right to make or change this table; then nothing is
written here. One that cannot be read is begun anew, so that it does not fit any more: no row is lost or refused for it.

Clients name slices, as many as they like: MOST_SLICES of an hour have a sketch of their own, the others share one.
"""

import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from records.engines import exclusive, explained
from records.schema import UtcTime
from records.sketch import Sketch
from records.sketch_bins import COLUMNS, FORMAT, Floats
from resunet.errors import RecordsError

MOST_SLICES: Final = 50
# A longer name does not fit into an index of PostgreSQL.
LONGEST_SLICE: Final = 200
NO_SLICE, OTHER_SLICES, NAMED = "", "*", "="
_AT_A_TIME: Final = 500

_log = logging.getLogger(__name__)

metadata = MetaData()

sketches = Table(
    "sketches",
    metadata,
    Column("model_name", Text, primary_key=True),
    Column("hour", UtcTime, primary_key=True),
    Column("model_version", Text, primary_key=True),
    Column("model_digest", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("status", Text, primary_key=True),
    # "" without a slice, "=name" of a slice, "*" of those that are too many.
    Column("part", Text, primary_key=True),
    # Of `records.sketch_bins`: each release keeps its own.
    Column("format", Integer, primary_key=True, autoincrement=False),
    Column("rows", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
)


class Key(NamedTuple):
    """What a sketch sums up."""

    model_name: str
    hour: datetime
    model_version: str
    model_digest: str
    route: str
    status: str
    part: str

    @property
    def slice(self) -> str | None:
        """The slice that is named; None where there is none, or where they are many."""
        return self.part[1:] if self.part.startswith(NAMED) else None


KEY_COLUMNS: Final = tuple(sketches.c[name] for name in Key._fields)
# What `unpacked` reads.
CONTENT: Final = (sketches.c.rows, sketches.c.content)
_texts = itemgetter("model_name", "model_version", "model_digest", "route", "status", "slice")
_numbers = itemgetter(*COLUMNS)
_Group = TypeVar("_Group", bound=Hashable)


def hour_of(moment: datetime) -> datetime:
    """The beginning of the hour, UTC; moment: aware."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def part_of(name: str | None, *, every: bool = False) -> str:
    """How a slice is named in the table; `every`: also one that is too long for it."""
    if name is None:
        return NO_SLICE
    return f"{NAMED}{name}" if every or len(name.encode()) <= LONGEST_SLICE else OTHER_SLICES


def prepare(engine: Engine) -> bool:
    """Make the table where it is missing and may be made, and return whether it may be written.

    Raises:
        RecordsError: the database does not answer.
    """
    with explained(engine):
        with engine.connect() as connection:
            if _is_there(connection):
                return writable(connection)
            if not _may_make(connection):
                return False
        with exclusive(engine) as connection:
            metadata.create_all(connection)
            return writable(connection)


def writable(connection: Connection) -> bool:
    """Whether this role may keep sketches up."""
    return _may(connection, "SELECT", "INSERT", "UPDATE")


def replaceable(connection: Connection) -> bool:
    """Whether this role may also make them anew."""
    return _may(connection, "SELECT", "INSERT", "UPDATE", "DELETE")


def readable(connection: Connection) -> bool:
    """Whether this role may read them."""
    return _may(connection, "SELECT")


def add(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Count a batch of rows of `predictions` in, last of all that its transaction does: the sketches stay locked."""
    if not rows or not writable(connection):
        return
    fresh = capped(summed(rows), _known(connection, rows))
    # All named ones before the shared ones, and either sorted: two processes never wait for each other.
    for last in (False, True):
        chosen = sorted(key for key in fresh if (key.part == OTHER_SLICES) == last)
        if chosen:
            _merge_in(connection, {key: fresh[key] for key in chosen})


def drop(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Delete the sketches, of every format, of the hours that rows of `predictions` are in."""
    hours = sorted({(row["model_name"], hour_of(row["event_time"])) for row in rows})
    if not hours or not _is_there(connection):
        return
    for start in range(0, len(hours), _AT_A_TIME):
        touched = tuple_(sketches.c.model_name, sketches.c.hour).in_(hours[start : start + _AT_A_TIME])
        connection.execute(delete(sketches).where(touched))


def unpacked(rows: int, content: bytes) -> Sketch:
    """A sketch as the table has it.

    Args:
        rows: that it is said to sum up.

    Raises:
        RecordsError: it is damaged, of another format, or of another number of rows.
    """
    sketch = Sketch.from_bytes(content)
    if sketch.rows != rows:
        raise RecordsError(f"a sketch of the inference log sums up {sketch.rows} rows, not {rows} as its row says")
    return sketch


def store(connection: Connection, made: Mapping[Key, Sketch]) -> None:
    """Add sketches that are not there."""
    if made:
        rows = [
            {**key._asdict(), "format": FORMAT, "rows": one.rows, "content": one.to_bytes()}
            for key, one in made.items()
        ]
        connection.execute(insert(sketches), rows)


def summed(rows: Sequence[Mapping[str, Any]]) -> dict[Key, Sketch]:
    """Sketches of rows of `predictions`, each of an hour, version, route, status and slice."""
    # None becomes NaN.
    values: Floats = np.array([_numbers(row) for row in rows], dtype=np.float64)
    found = grouped([(*_texts(row), hour_of(row["event_time"])) for row in rows], values)
    made: dict[Key, Sketch] = {}
    for (model, version, digest, route, status, name, hour), sketch in found.items():
        # Slices whose names are too long are one.
        key = Key(model, hour, version, digest, route, status, part_of(name))
        made[key] = made[key].merge(sketch) if key in made else sketch
    return made


def grouped(keys: Sequence[_Group], values: Floats) -> dict[_Group, Sketch]:
    """A sketch of each group of rows; values: (N, columns), keys: N."""
    places: dict[_Group, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    if len(places) == 1:
        return {keys[0]: Sketch.of(values)}
    return {key: Sketch.of(values[chosen]) for key, chosen in places.items()}


def capped(fresh: Mapping[Key, Sketch], known: Iterable[Key] = ()) -> dict[Key, Sketch]:
    """The same with no more than MOST_SLICES an hour and version, route and status: first come, or most rows."""
    named = set(known)
    room: dict[Key, int] = {}
    for key in named:
        room[shared(key)] = room.get(shared(key), MOST_SLICES) - (key.slice is not None)
    kept: dict[Key, Sketch] = {}
    for key, sketch in sorted(fresh.items(), key=lambda item: (-item[1].rows, item[0])):
        others = shared(key)
        if key.slice is not None and key not in named:
            if room.setdefault(others, MOST_SLICES) <= 0:
                key = others
            else:
                room[others] -= 1
        kept[key] = kept[key].merge(sketch) if key in kept else sketch
    return kept


def shared(key: Key) -> Key:
    """What the slices that are too many have in the place of a slice's own key."""
    return key._replace(part=OTHER_SLICES)


def _known(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Key]:
    """The keys that are there of the rows' hours."""
    hours = sorted({(row["model_name"], hour_of(row["event_time"])) for row in rows})
    found: list[Key] = []
    for start in range(0, len(hours), _AT_A_TIME):
        theirs = tuple_(sketches.c.model_name, sketches.c.hour).in_(hours[start : start + _AT_A_TIME])
        found += [Key(*row) for row in connection.execute(select(*KEY_COLUMNS).where(theirs, _OURS))]
    return found


def _merge_in(connection: Connection, fresh: Mapping[Key, Sketch]) -> None:
    """Merge sketches into the table's; `fresh` is in the order in which rows are to be locked."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    blank = [{**key._asdict(), "format": FORMAT, "rows": 0, "content": b""} for key in fresh]
    connection.execute(dialect.insert(sketches).on_conflict_do_nothing(), blank)
    query = select(*KEY_COLUMNS, *CONTENT).where(tuple_(*KEY_COLUMNS).in_(list(fresh)), _OURS)
    # Read after the lock: what another process has added meanwhile is in it.
    found = connection.execute(query.order_by(*KEY_COLUMNS).with_for_update())
    changed = []
    for *texts, rows, content in found:
        key = Key(*texts)
        try:
            before = unpacked(rows, content)
        except RecordsError as error:
            # The hour does not fit its rows then, and whoever reads it next sums it up again.
            _log.warning("of the hour of %s a sketch is begun anew: %s", key.hour, error)
            before = Sketch.empty()
        merged = before.merge(fresh[key])
        fields = {f"of_{name}": value for name, value in key._asdict().items()}
        changed.append({**fields, "now": merged.rows, "made": merged.to_bytes()})
    same = [column == bindparam(f"of_{column.name}") for column in KEY_COLUMNS]
    statement = update(sketches).where(*same, _OURS).values(rows=bindparam("now"), content=bindparam("made"))
    connection.execute(statement, changed)


_OURS = sketches.c.format == FORMAT


def _is_there(connection: Connection) -> bool:
    if connection.dialect.name == "postgresql":
        return bool(connection.exec_driver_sql("SELECT to_regclass('sketches') IS NOT NULL").scalar_one())
    return connection.dialect.has_table(connection, sketches.name)


def _may(connection: Connection, *rights: str) -> bool:
    """Whether the table is there and the role has these rights."""
    if connection.dialect.name != "postgresql":
        return _is_there(connection)
    asked = " AND ".join(f"has_table_privilege(to_regclass('sketches'), '{right}')" for right in rights)
    return bool(connection.exec_driver_sql(f"SELECT {asked}").scalar_one())


def _may_make(connection: Connection) -> bool:
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.exec_driver_sql("SELECT has_schema_privilege(current_schema(), 'CREATE')").scalar_one())
