"""One row a key, in one statement: two at once do not disturb each other.

upsert(connection, table, values)                       # whoever writes last is kept
add_up(connection, table, rows, "requests")             # what all of them write is added up
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(connection: Connection, table: Table, values: Mapping[str, Any]) -> None:
    """Add a row, or give the row of the same primary key these values."""
    statement = _dialect(connection).insert(table).values(**values)
    keys = _keys(table)
    others = {name: value for name, value in values.items() if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=others))


def add_up(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], sum_of: str) -> None:
    """Add rows; to one of the same primary key add what is in a column of numbers."""
    statement = _dialect(connection).insert(table)
    total = table.c[sum_of] + statement.excluded[sum_of]
    connection.execute(
        statement.on_conflict_do_update(index_elements=_keys(table), set_={sum_of: total}), [dict(row) for row in rows]
    )


def _dialect(connection: Connection) -> Any:
    return postgresql if connection.dialect.name == "postgresql" else sqlite


def _keys(table: Table) -> list[str]:
    return [column.name for column in table.primary_key.columns]
