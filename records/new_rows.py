"""Insert a batch of rows into `predictions` with one statement, and tell which of them were new.

    with adding(engine) as connection:
        new = insert_new(connection, [values, …])       # answer ids

SQLAlchemy writes a placeholder for each value of each row, and PostgreSQL's driver reads all of them again: with 40
columns that took most of the time. Here PostgreSQL is given an array a column, and SQLite, where the transaction is the
only writer, is asked first which rows are there.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Column, Connection, Float, LargeBinary, select

from records.schema import UtcTime, predictions
from records.tombstones import in_parts

_COLUMNS: Final = tuple(predictions.c)
# The one type that SQLite's driver does not know.
_EVENT_TIME: Final = predictions.c.event_time
_all: Final = itemgetter(*(column.name for column in _COLUMNS))


def insert_new(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Store the rows that are not there yet, of equal ones the first, and return their answer ids.

    Args:
        rows: in the order in which they are to be locked, by `answer_id`.

    Raises:
        SQLAlchemyError: the database does not answer, or does not take a row.
    """
    once: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        once.setdefault(row["answer_id"], row)
    if not once:
        return set()
    insert = _into_postgresql if connection.dialect.name == "postgresql" else _into_sqlite
    return insert(connection, once)


def _into_postgresql(connection: Connection, rows: Mapping[str, Mapping[str, Any]]) -> set[str]:
    arrays = tuple([row[column.name] for row in rows.values()] for column in _COLUMNS)
    return set(connection.exec_driver_sql(_POSTGRESQL, arrays).scalars())


def _into_sqlite(connection: Connection, rows: Mapping[str, Mapping[str, Any]]) -> set[str]:
    missing = rows.keys() - _present(connection, list(rows))
    as_text = _EVENT_TIME.type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
    assert as_text is not None
    values = [
        _all({**row, _EVENT_TIME.name: as_text(row[_EVENT_TIME.name])}) for k, row in rows.items() if k in missing
    ]
    if values and connection.exec_driver_sql(_SQLITE, values).rowcount != len(values):
        # A trigger passed over some: what is there is what was stored.
        return _present(connection, sorted(missing))
    return set(missing)


def _present(connection: Connection, names: Sequence[str]) -> set[str]:
    key, found = predictions.c.answer_id, set[str]()
    for part in in_parts(names):
        found |= set(connection.scalars(select(key).where(key.in_(part))))
    return found


def _array_of(column: Column[Any]) -> str:
    if isinstance(column.type, Float):
        return "float8[]"
    if isinstance(column.type, UtcTime):
        return "timestamptz[]"
    return "bytea[]" if isinstance(column.type, LargeBinary) else "text[]"


_NAMES = ", ".join(f'"{column.name}"' for column in _COLUMNS)
# Binary: as text, numbers take five times as long.
_ARRAYS = ", ".join(f"%b::{_array_of(column)}" for column in _COLUMNS)
_POSTGRESQL: Final = (
    f"INSERT INTO predictions ({_NAMES}) SELECT * FROM unnest({_ARRAYS}) ON CONFLICT DO NOTHING RETURNING answer_id"
)
_SQLITE: Final = f"INSERT INTO predictions ({_NAMES}) VALUES ({', '.join('?' * len(_COLUMNS))})"
