"""Open the database that predictions are logged to: `predictions`, `labels`, and the mark of their format.

    engine = open_log("sqlite:////var/lib/resunet/records.db")

The platform's tables may lie in the same database; they are no concern of this module. Served versions carry a copy of
it, each that of the release which made it, and all of them write to one log: what is changed here must leave the
older ones their way (`records.schema`).
"""

from typing import Any, Final

from sqlalchemy import Column, Connection, Engine, Table, inspect, select, text
from sqlalchemy.exc import OperationalError

from records import schema
from records.engines import describe, exclusive, explained, make_engine, make_folder, was_locked
from resunet.errors import RecordsError

_LOCK_WAIT: Final = "3s"


def open_log(url: str) -> Engine:
    """Connect, make missing tables and columns, and check the format.

    The folder of a SQLite file is made when only its last part is missing.

    Args:
        url: `sqlite:///path` or `postgresql+psycopg://user:password@host/name`.

    Raises:
        RecordsError: the URL makes no sense, the database does not answer, or its log is of another format.
    """
    engine = make_engine(url)
    prepare_log(engine)
    return engine


def prepare_log(engine: Engine) -> None:
    """Make what is missing and refuse a format that this release does not know; safe from many processes at once.

    Raises:
        RecordsError: the database does not answer, or its log is of another format.
    """
    make_folder(engine)
    with explained(engine):
        # Most find everything: reading needs no lock, and no right to make tables.
        with engine.connect() as connection:
            if _is_complete(engine, connection):
                return
        with exclusive(engine) as connection:
            if not _is_complete(engine, connection):
                _make(connection)


def stored_format(connection: Connection) -> int | None:
    """The number in `records_schema`; None where there is no log."""
    if not inspect(connection).has_table(schema.schema_version.name):
        return None
    version: int | None = connection.scalar(select(schema.schema_version.c.version))
    return version


def has_column(connection: Connection, column: Column[Any]) -> bool:
    """Whether a log that an earlier release made has a column by now: its owner adds it by opening the log once."""
    return column.name in {found["name"] for found in inspect(connection).get_columns(column.table.name)}


def _is_complete(engine: Engine, connection: Connection) -> bool:
    found, known = stored_format(connection), schema.SCHEMA_VERSION
    if found is None:
        return False
    if found > known:
        raise RecordsError(
            f"{describe(engine)} was made by a newer release (schema {found}, this release knows {known}): upgrade "
            "this release, or set another database URL"
        )
    if found < known:
        raise RecordsError(
            f"{describe(engine)} was made by an older release (schema {found}, this release writes {known}): set "
            "another database URL, and keep the old one for reading"
        )
    tables = inspect(connection).get_table_names()
    return set(schema.metadata.tables) <= set(tables) and not any(
        column.table is schema.predictions or _owns(connection, column.table) for column in _missing_columns(connection)
    )


def _owns(connection: Connection, table: Table) -> bool:
    """Whether this role may add a column; who only logs need not, and notes less of a label then."""
    if connection.dialect.name != "postgresql":
        return True
    query = text("SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(:name)")
    return bool(connection.scalar(query, {"name": table.name}))


def _make(connection: Connection) -> None:
    schema.metadata.create_all(connection)
    if stored_format(connection) is None:
        connection.execute(schema.schema_version.insert().values(id=1, version=schema.SCHEMA_VERSION))
    # A release may add descriptors, or what it notes of a label: older rows have NULL there.
    quote = connection.dialect.identifier_preparer.quote
    mine = [
        column
        for column in _missing_columns(connection)
        if column.table is schema.predictions or _owns(connection, column.table)
    ]
    if mine and connection.dialect.name == "postgresql":
        # It takes no time but needs the table for itself, and whoever comes while it waits for that waits behind it.
        connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'"))
    try:
        for column in mine:
            kind = column.type.compile(connection.dialect)
            connection.execute(text(f"ALTER TABLE {column.table.name} ADD COLUMN {quote(column.name)} {kind}"))
    except OperationalError as error:
        if not was_locked(error):
            raise
        raise RecordsError(
            f"{describe(connection.engine)} lacks columns of this release, and somebody uses its tables for longer "
            f"than {_LOCK_WAIT}: try again, with `python -m records upgrade`, when backups and long queries are over"
        ) from None


def _missing_columns(connection: Connection) -> list[Column[Any]]:
    inspector, missing = inspect(connection), []
    for table, names in ((schema.predictions, schema.DESCRIPTOR_COLUMNS), (schema.labels, schema.LABEL_COLUMNS)):
        present = {column["name"] for column in inspector.get_columns(table.name)}
        missing += [table.c[name] for name in names if name not in present]
    return missing
