"""The rows of the log, where no sketches of them are kept: counted, named and summed up in chunks.

    rows_by_hour(connection, "resunet", start, end)                 # {hour: 1200}
    named = names_in_rows(connection, "resunet", start, end)        # the slices that are to be told apart
    for key, sketch in sketches_of_rows(connection, "resunet", start, end, named): …

Which slices are told apart is found out before anything is summed up: clients name as many as they like, and a sketch
of each would take 25 kB.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from sqlalchemy import Column, ColumnElement, Connection, LargeBinary, cast, func, select

from records.schema import predictions
from records.sketch import Sketch
from records.sketch_bins import COLUMNS
from records.sketches import LONGEST_SLICE, MOST_SLICES, OTHER_SLICES, Key, grouped, hour_of, part_of

# What a sketch is of, but for model and hour.
TEXTS: Final = ("model_version", "model_digest", "route", "status", "slice")
CHUNK: Final = 10_000

# The values of TEXTS.
Group = tuple[str | None, ...]


def rows_by_hour(connection: Connection, model_name: str, first: datetime, last: datetime) -> dict[datetime, int]:
    """How many rows each hour has; of those without any nothing is said."""
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
    query = select(hour.label("hour"), func.count()).where(*of_time(model_name, first, last)).group_by("hour")
    return {_as_hour(found): count for found, count in connection.execute(query)}


def names_in_rows(connection: Connection, model_name: str, start: datetime, end: datetime) -> dict[Group, int]:
    """The slices with most rows, MOST_SLICES of a version, digest, route and status, and how many rows each has."""
    name = predictions.c.slice
    if connection.dialect.name == "postgresql":
        length = func.octet_length(name)
    else:
        length = func.length(cast(name, LargeBinary))
    mine = (*of_time(model_name, start, end), name.is_not(None), length <= LONGEST_SLICE)
    columns = [predictions.c[text] for text in TEXTS]
    return dict(largest(connection, columns, func.count(), mine))


def sketches_of_rows(
    connection: Connection, model_name: str, start: datetime, end: datetime, named: Collection[Group] | None
) -> Iterator[tuple[Key, Sketch]]:
    """Sketches of the rows of a part of an hour, some for each chunk; named: slices to tell apart, None for each."""
    query = select(*(predictions.c[name] for name in (*TEXTS, *COLUMNS))).where(*of_time(model_name, start, end))
    size = len(TEXTS)

    def key_of(texts: Group) -> Key:
        version, digest, route, status, name = texts
        told_apart = named is None or name is None or texts in named
        part = part_of(name, every=True) if told_apart else OTHER_SLICES
        return Key(model_name, hour_of(start), str(version), str(digest), str(route), str(status), part)

    for rows in connection.execute(query, execution_options={"yield_per": CHUNK}).partitions():
        # None becomes NaN.
        values = np.array([row[size:] for row in rows], dtype=np.float64)
        yield from grouped([key_of(tuple(row[:size])) for row in rows], values).items()


def largest(
    connection: Connection,
    columns: Sequence[Column[Any]],
    count: ColumnElement[Any],
    where: Sequence[ColumnElement[bool]],
) -> Iterator[tuple[Group, int]]:
    """The groups with the largest counts, MOST_SLICES of those that differ in the last column alone; and the counts."""
    groups = select(*columns, count.label("size")).where(*where).group_by(*columns).subquery()
    *others, last = (groups.c[column.name] for column in columns)
    place = func.row_number().over(partition_by=others, order_by=(groups.c.size.desc(), last))
    ranked = select(groups, place.label("place")).subquery()
    chosen = [ranked.c[column.name] for column in groups.c]
    for row in connection.execute(select(*chosen).where(ranked.c.place <= MOST_SLICES)):
        yield tuple(row[:-1]), int(row[-1])


def of_time(model_name: str, start: datetime, end: datetime) -> Sequence[ColumnElement[bool]]:
    """Which rows are a model's from a moment to another, the end left out."""
    time = predictions.c.event_time
    return (predictions.c.model_name == model_name, time >= start, time < end)


def _as_hour(found: Any) -> datetime:
    moment = found if isinstance(found, datetime) else datetime.fromisoformat(f"{found}:00")
    return moment.replace(tzinfo=UTC)
