"""Connections to a database: SQLite (WAL) by default, PostgreSQL in production.

    engine = make_engine("postgresql+psycopg://resunet@db.example/resunet")      # has not connected yet
    with explained(engine), exclusive(engine) as connection:
        …

What is in it is made and checked by `records.log_database` and `records.database`. No message of this module shows a
password.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError, StatementError

from resunet.errors import RecordsError

_PAUSE_S = 0.01
BUSY_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 5
# Any fixed number: the advisory lock under which tables are made and decisions are appended on PostgreSQL.
_ADVISORY_LOCK = 0x7265_7375
# PostgreSQL: a lock that was not given in time, and two who waited for each other.
_LOCKED = ("55P03", "40P01")


def make_engine(url: str) -> Engine:
    """Parse a URL and return an engine that has not connected yet.

    Raises:
        RecordsError: it is not a URL of SQLite or PostgreSQL, or the driver is not installed.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Not chained: the parser quotes parts of the URL, and a mistyped password could be among them.
        raise RecordsError(
            "the database URL cannot be parsed: write sqlite:///path/to/records.db or "
            "postgresql+psycopg://user:password@host/name (percent-encode special characters of the password)"
        ) from None
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if hidden := parsed.query.get("password"):
        # SQLAlchemy hides a password only in its own place.
        parsed = parsed.set(password=str(hidden)).difference_update_query(["password"])
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise RecordsError("an in-memory SQLite database forgets every record: name a file, sqlite:///path")
        options: dict[str, Any] = {"connect_args": {"timeout": BUSY_TIMEOUT_S}}
    elif backend == "postgresql":
        keepalive = {"keepalives_idle": 30, "tcp_user_timeout": 30_000}
        options = {
            "connect_args": {"connect_timeout": CONNECT_TIMEOUT_S, **keepalive},
            "pool_pre_ping": True,
        }
    else:
        raise RecordsError(f"{backend} is not supported: the records live in SQLite or PostgreSQL")
    try:
        engine = create_engine(parsed, hide_parameters=True, **options)
    except (ImportError, SQLAlchemyError):
        raise RecordsError(
            f"no driver for {parsed.drivername} is installed: "
            "install psycopg[binary] and write the URL as postgresql+psycopg://"
        ) from None
    if backend == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def make_folder(engine: Engine) -> None:
    """Make the folder of a SQLite file when only its last part is missing.

    Raises:
        RecordsError: it cannot be made.
    """
    if engine.url.get_backend_name() != "sqlite":
        return
    try:
        Path(str(engine.url.database)).parent.mkdir(exist_ok=True)
    except OSError as error:
        raise RecordsError(f"the folder of {describe(engine)} cannot be made: {error.strerror}; make it") from None


@contextmanager
def exclusive(engine: Engine) -> Iterator[Connection]:
    """A transaction that no other writer of the records runs beside: it commits on leaving, or rolls back."""
    with (
        engine.connect().execution_options(records_begin="BEGIN IMMEDIATE") as connection,
        connection.begin(),
    ):
        if engine.dialect.name == "postgresql":
            connection.execute(select(text("pg_advisory_xact_lock(:key)")).params(key=_ADVISORY_LOCK))
        yield connection


@contextmanager
def explained(engine: Engine) -> Iterator[None]:
    """Turn a driver's error into a `RecordsError` that says which database and why, without its password."""
    try:
        yield
    except SQLAlchemyError as error:
        told = str(error.orig) if isinstance(error, StatementError) and error.orig else type(error).__name__
        # The first line alone: PostgreSQL repeats the content of a failing row below it.
        reason = (told.splitlines() or [type(error).__name__])[0]
        # Not chained: a driver may repeat its connection string.
        raise RecordsError(
            f"{describe(engine)} cannot be used: {_without_secrets(reason, engine.url)}. "
            "Check that it is up, reachable and writable"
        ) from None


def was_locked(error: DBAPIError) -> bool:
    """Whether a statement failed since somebody else held a lock for too long; the database is well otherwise."""
    if getattr(error.orig, "sqlstate", None) in _LOCKED:
        return True
    code = getattr(error.orig, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY


def describe(engine: Engine) -> str:
    """Name a database for people: backend, host and name; never user, password or query."""
    url = engine.url
    if url.get_backend_name() == "sqlite":
        return f"the SQLite database {url.database}"
    host = f"{url.host or 'local socket'}{f':{url.port}' if url.port else ''}"
    return f"the PostgreSQL database {url.database or ''} on {host}"


def _without_secrets(message: str, url: URL) -> str:
    secrets = [str(url.password or "")]
    secrets += [str(value) for key, value in url.query.items() if "pass" in key.lower()]
    for secret in filter(None, secrets):
        message = message.replace(secret, "***")
    return " ".join(message.split())


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transaction control begins too late for BEGIN IMMEDIATE and not at all for reads.
    connection.isolation_level = None
    cursor = connection.cursor()
    _write_ahead(cursor)
    # A drained spool segment is deleted after its commit, so the commit must outlive a power loss.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Switch a new file to WAL; SQLite refuses at once, without waiting, while another connection does so or writes."""
    ends = time.monotonic() + BUSY_TIMEOUT_S
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > ends:
                raise
            time.sleep(_PAUSE_S)


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("records_begin", "BEGIN"))
