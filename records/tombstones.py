"""What was forgotten, so that it stays so: rows that come later are made anonymous, labels for them are refused.

    with engine.begin() as connection:
        known = known_forgotten(connection, [values, …])    # by row: the anonymous values, or None
        refuse_label(connection, "request id")              # ForgottenError

Table `forgotten` holds no id in clear: a request or a client is an HMAC under a salt in the same table, an answer its
`answer_id`, which is a hash already. (Whoever reads the table can therefore try names that they guess.) A tombstone
holds for what happened until it was made: ids and clients come back. The tables are made by the first
`python -m records forget`, not with the log: who only logs may lack the right to make tables, and reads them where
they are. Earlier releases do not look here; a trigger passes over the answers that were known when they were forgotten.

`forgettings` has a row each time somebody forgot: who, when, how many, and of whom by that HMAC alone. It is not in the
chain of `records.audit`, which lies in the database of decisions, and is about versions.
"""

import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    delete,
    func,
    insert,
    inspect,
    select,
)

from records.engines import exclusive
from records.schema import UtcTime, labels, predictions
from records.texts import storable
from resunet.errors import RecordsError

Kind = Literal["request", "client"]

ANONYMOUS = "forgotten-"
_AT_A_TIME = 500
_LOCK_WAIT = "30s"
_Number = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

forgotten = Table(
    "forgotten",
    metadata,
    # In order of commits: who has seen a number has seen all before it.
    Column("seq", _Number, primary_key=True, autoincrement=True),
    # salt; request and client: an HMAC; label: the request of a forgotten client's row; answer: an answer_id.
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("until", UtcTime, nullable=False),
    UniqueConstraint("kind", "name"),
    sqlite_autoincrement=True,
)

forgettings = Table(
    "forgettings",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("begun", UtcTime, nullable=False),
    # NULL: it was cut off, and is to be run again.
    Column("ended", UtcTime),
    *(Column(name, Integer) for name in ("predictions", "labels", "masks", "images", "waiting")),
    sqlite_autoincrement=True,
)

_SQLITE_TRIGGER = (
    "CREATE TRIGGER IF NOT EXISTS predictions_forgotten BEFORE INSERT ON predictions "
    "WHEN EXISTS (SELECT 1 FROM forgotten "
    "WHERE kind = 'answer' AND name = NEW.answer_id AND until >= NEW.event_time) "
    "BEGIN SELECT RAISE(IGNORE); END"
)
_POSTGRESQL_TRIGGER = (
    "CREATE FUNCTION predictions_forgotten() RETURNS trigger LANGUAGE plpgsql "
    "SET search_path = {schema}, pg_temp AS $$ BEGIN IF EXISTS (SELECT 1 FROM forgotten "
    "WHERE kind = 'answer' AND name = NEW.answer_id AND until >= NEW.event_time) THEN RETURN NULL; END IF; "
    "RETURN NEW; END $$",
    "CREATE TRIGGER predictions_forgotten BEFORE INSERT ON predictions FOR EACH ROW "
    "EXECUTE FUNCTION predictions_forgotten()",
    # Whoever adds predictions has to see what may not come back.
    "GRANT SELECT ON forgotten TO PUBLIC",
)


class ForgottenError(RecordsError):
    """A request that was forgotten: nothing more is kept of it."""


@contextmanager
def forgetting(engine: Engine) -> Iterator[Connection]:
    """A transaction beside which nobody adds predictions or labels; those that did so before have ended."""
    with exclusive(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'")
            connection.exec_driver_sql("LOCK TABLE predictions, labels IN SHARE ROW EXCLUSIVE MODE")
        else:
            # What is taken out is overwritten, not only given free.
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
        yield connection


def clear_wal(engine: Engine) -> None:
    """SQLite: bring what was overwritten to the file, and empty the log beside it, if nobody reads there now."""
    if engine.dialect.name != "sqlite":
        return
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 2000")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.invalidate()


@contextmanager
def adding(engine: Engine) -> Iterator[Connection]:
    """A transaction that adds predictions after it has looked here: nothing is forgotten in between."""
    with engine.connect().execution_options(records_begin="BEGIN IMMEDIATE") as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE predictions IN ROW EXCLUSIVE MODE")
        yield connection


def prepare(connection: Connection) -> bytes:
    """Make what is missing of tables, trigger and salt, and return the salt; within `forgetting`."""
    metadata.create_all(connection)
    _add_trigger(connection)
    if _stored_salt(connection) is None:
        bury(connection, "salt", [os.urandom(16).hex()], datetime.now(UTC))
    salt = _stored_salt(connection)
    assert salt is not None
    return salt


def salt_of(connection: Connection) -> bytes | None:
    """The salt; None where nothing was ever forgotten."""
    return _stored_salt(connection) if inspect(connection).has_table(forgotten.name) else None


def digest(salt: bytes, kind: str, text: str) -> str:
    """What stands for an id: an HMAC of it as the log would have stored it."""
    return hmac.new(salt, f"{kind}\0{storable(text)}".encode(), hashlib.sha256).hexdigest()


def bury(connection: Connection, kind: str, names: Sequence[str], until: datetime) -> None:
    """Set tombstones, anew where they are: they get the next numbers."""
    for part in in_parts(sorted(set(names))):
        connection.execute(delete(forgotten).where(forgotten.c.kind == kind, forgotten.c.name.in_(part)))
        rows = [{"kind": kind, "name": name, "until": until} for name in part]
        connection.execute(insert(forgotten), rows)


def known_forgotten(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | None]:
    """Of each row of `predictions` that was forgotten what may be stored of it; None of the others."""
    salt = salt_of(connection)
    if salt is None:
        return [None] * len(rows)
    names = [_names(salt, row) for row in rows]
    until: dict[tuple[str, str], datetime] = {}
    for part in in_parts(sorted({name for named in names for _, name in named})):
        query = select(forgotten.c.kind, forgotten.c.name, forgotten.c.until).where(forgotten.c.name.in_(part))
        until |= {(kind, name): moment for kind, name, moment in connection.execute(query)}
    return [
        anonymous(salt, row) if any(row["event_time"] <= until[name] for name in named if name in until) else None
        for row, named in zip(rows, names, strict=True)
    ]


def anonymous(salt: bytes, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without what names, shows or finds a request; the same each time, so that it counts once.

    Kept is what statistics of a window are made of: model, route, status, engine, threshold, latency, size,
    descriptors, and the minute.
    """
    name = digest(salt, "row", row["answer_id"])
    return dict(row) | {
        "answer_id": name,
        "request_id": f"{ANONYMOUS}{name[:32]}",
        "event_time": row["event_time"].replace(second=0, microsecond=0),
        **dict.fromkeys(("client", "slice", "image_digest", "embedding")),
    }


def refuse_label(connection: Connection, request_id: str) -> None:
    """Refuse a label for what was forgotten; call it in the label's transaction, after it was added.

    Where only a client was forgotten, another one's request of the same id may still be labelled.

    Raises:
        ForgottenError: the request was forgotten.
    """
    salt = salt_of(connection)
    if salt is None:
        return
    named = forgotten.c.name == digest(salt, "request", request_id)
    kinds = set(connection.scalars(select(forgotten.c.kind).where(named)))
    if "label" in kinds and "request" not in kinds:
        others = select(predictions.c.answer_id).where(predictions.c.request_id == storable(request_id)).limit(1)
        kinds = set() if connection.scalar(others) is not None else kinds
    if kinds:
        raise ForgottenError(f"request {request_id!r} was forgotten: no label of it is kept")


def answers_after(connection: Connection, seq: int, limit: int = _AT_A_TIME) -> tuple[int, list[str]]:
    """The next forgotten answers and the number of the last one; the same number where there are no more.

    A number that was not given out yet is of a database that was restored since: it begins again.
    """
    last = connection.scalar(select(func.max(forgotten.c.seq))) or 0
    seq = seq if seq <= last else 0
    query = select(forgotten.c.seq, forgotten.c.name).where(forgotten.c.kind == "answer", forgotten.c.seq > seq)
    rows = connection.execute(query.order_by(forgotten.c.seq).limit(limit)).all()
    return (rows[-1].seq if rows else seq), [row.name for row in rows]


def drop_labels(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> int:
    """Delete the labels of predictions, and return how many there were."""
    same = ("request_id", "model_name", "model_version")
    keys = {tuple(row[name] for name in same) for row in rows}
    gone = 0
    for key in keys:
        mine = [labels.c[name] == value for name, value in zip(same, key, strict=True)]
        gone += connection.execute(delete(labels).where(*mine)).rowcount
    return gone


def in_parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """So many at a time as a statement takes."""
    for start in range(0, len(names), _AT_A_TIME):
        yield names[start : start + _AT_A_TIME]


def _add_trigger(connection: Connection) -> None:
    if connection.dialect.name != "postgresql":
        connection.exec_driver_sql(_SQLITE_TRIGGER)
        return
    there = "SELECT 1 FROM pg_trigger WHERE tgname = 'predictions_forgotten' AND tgrelid = 'predictions'::regclass"
    if connection.exec_driver_sql(there).first() is None:
        schema = connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
        for statement in _POSTGRESQL_TRIGGER:
            connection.exec_driver_sql(statement.format(schema=schema))


def _names(salt: bytes, row: Mapping[str, Any]) -> list[tuple[str, str]]:
    named = [("request", digest(salt, "request", row["request_id"])), ("answer", str(row["answer_id"]))]
    if row["client"] is not None:
        named.append(("client", digest(salt, "client", row["client"])))
    return named


def _stored_salt(connection: Connection) -> bytes | None:
    salt = connection.scalar(select(forgotten.c.name).where(forgotten.c.kind == "salt"))
    return None if salt is None else bytes.fromhex(salt)
