"""What release 2 made of a database and did when it opened one, as it was: nothing here follows the code.

    engine = open_as_release_2(url)
    log_as_release_2(engine, "a")

Its model versions are still served, and carry that code with them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Engine,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

from records.audit_triggers import protect
from records.engines import make_engine

SCHEMA_VERSION = 2
# fmt: off
DESCRIPTORS = (
    "width", "height", "aspect", "brightness", "contrast", "mean_r", "mean_g", "mean_b", "std_r", "std_g", "std_b",
    "saturation", "hue_spread", "entropy", "sharpness", "noise", "clipped_low", "clipped_high", "foreground_fraction",
    "component_count", "confidence", "boundary_uncertainty",
)
# fmt: on

metadata = MetaData()
schema_version = Table(
    "records_schema",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)
predictions = Table(
    "predictions",
    metadata,
    Column("answer_id", Text, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("event_time", DateTime(timezone=True), nullable=False),
    Column("model_digest", Text, nullable=False),
    Column("client", Text),
    Column("slice", Text),
    Column("engine", Text),
    Column("status", Text, nullable=False),
    Column("image_digest", Text),
    Column("threshold", Float),
    Column("latency_ms", Float),
    Column("width", Float),
    Column("height", Float),
    Column("embedding", LargeBinary),
    *(Column(name, Float) for name in DESCRIPTORS[2:]),
    Index("predictions_window", "model_name", "event_time"),
    Index("predictions_request", "model_name", "request_id"),
)
labels = Table(
    "labels",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("model_name", Text, primary_key=True),
    Column("model_version", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("label_time", DateTime(timezone=True), nullable=False),
    *(Column(name, Float) for name in ("dice", "iou", "precision", "recall", "boundary_f1")),
    Index("labels_time", "model_name", "label_time"),
)
audit = Table(
    "audit",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("when", DateTime(timezone=True), nullable=False),
    *(Column(name, Text, nullable=False) for name in ("action", "actor", "model_name", "version")),
    *(Column(name, Text) for name in ("from_stage", "to_stage", "digest")),
    *(Column(name, Text, nullable=False) for name in ("gates", "reason", "previous_hash", "row_hash")),
)
audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", Integer, nullable=False),
    Column("row_hash", Text, nullable=False),
)
evaluations = Table(
    "evaluations",
    metadata,
    Column("version_digest", Text, primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    Column("measured_at", DateTime(timezone=True), nullable=False),
    Column("content", Text, nullable=False),
)


class NewerDatabaseError(Exception):
    """Release 2 refuses the database."""


def open_as_release_2(url: str) -> Engine:
    """Open a database with all that release 2 looks at, and makes where it is missing."""
    engine = make_engine(url)
    with _exclusive(engine) as connection:
        found = None
        if inspect(connection).has_table("records_schema"):
            found = connection.scalar(select(schema_version.c.version))
        if found is not None and found > SCHEMA_VERSION:
            raise NewerDatabaseError(found)
        assert found in (None, SCHEMA_VERSION)
        metadata.create_all(connection)
        protect(connection)
        if found is None:
            connection.execute(schema_version.insert().values(id=1, version=SCHEMA_VERSION))
        present = {column["name"] for column in inspect(connection).get_columns("predictions")}
        for name in DESCRIPTORS:
            if name not in present:
                connection.execute(text(f"ALTER TABLE predictions ADD COLUMN {name} FLOAT"))
    return engine


def log_as_release_2(engine: Engine, request_id: str) -> None:
    """Store an answer, as release 2 drains its spool."""
    values = dict.fromkeys(predictions.c.keys()) | {
        "answer_id": request_id.ljust(64, "0"),
        "request_id": request_id,
        "model_name": "resunet",
        "model_version": "2",
        "route": "production",
        "event_time": datetime(2026, 3, 1, 12),
        "model_digest": "sha256:aa",
        "status": "ok",
    }
    if engine.dialect.name == "postgresql":
        values["event_time"] = datetime(2026, 3, 1, 12, tzinfo=UTC)
    dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(predictions).on_conflict_do_nothing().returning(predictions.c.answer_id)
    with engine.begin() as connection:
        assert connection.execute(statement, [values]).scalars().all() == [values["answer_id"]]


@contextmanager
def _exclusive(engine: Engine) -> Iterator[Connection]:
    begin = engine.connect().execution_options(records_begin="BEGIN IMMEDIATE")
    with begin as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": 0x7265_7375})
        yield connection
