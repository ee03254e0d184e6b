"""The tables. One definition for SQLite and PostgreSQL.

`predictions` holds one row an answered (or refused) image, with one float column a descriptor, named as in
`resunet.descriptors`; `labels` the scores of a prediction once its truth is known; `audit` the hash-chained
decisions. Masks and images are never here.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    event,
)
from sqlalchemy.types import TypeDecorator

from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS

SCHEMA_VERSION = 1

ROUTES = ("production", "canary", "shadow", "batch")
STATUSES = ("ok", "refused")
LABEL_SOURCES = ("audit", "picked", "client")
EMBEDDING_BYTES = 64 * 4

DESCRIPTORS: tuple[str, ...] = (*IMAGE_DESCRIPTORS, *PREDICTION_DESCRIPTORS)


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime, stored as UTC with microseconds (SQLite keeps no zone: it is always UTC there)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored: use an aware datetime")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData()

schema_version = Table(
    "records_schema",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)

_PREDICTION_COLUMNS: tuple[Column[Any], ...] = (
    # The key of idempotent draining. A version number means something only together with its model's name.
    Column("request_id", Text, primary_key=True),
    Column("model_name", Text, primary_key=True),
    Column("model_version", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("event_time", UtcTime, nullable=False),
    Column("model_digest", Text, nullable=False),
    Column("client", Text),
    Column("slice", Text),
    Column("engine", Text),
    Column("status", Text, nullable=False),
    Column("latency_ms", Float),
    Column("width", Float),
    Column("height", Float),
    Column("embedding", LargeBinary),
)
_FIXED_NAMES = frozenset(column.name for column in _PREDICTION_COLUMNS)

# `width` and `height` are descriptors and known of refused images too: stored once.
DESCRIPTOR_COLUMNS: tuple[str, ...] = tuple(name for name in DESCRIPTORS if name not in _FIXED_NAMES)

predictions = Table(
    "predictions",
    metadata,
    *_PREDICTION_COLUMNS,
    *(Column(name, Float) for name in DESCRIPTOR_COLUMNS),
    Index("predictions_window", "model_name", "event_time"),
)

labels = Table(
    "labels",
    metadata,
    # One label a source: a label that is sent twice is counted once.
    Column("request_id", Text, primary_key=True),
    Column("model_name", Text, primary_key=True),
    Column("model_version", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("label_time", UtcTime, nullable=False),
    Column("dice", Float),
    Column("iou", Float),
    Column("precision", Float),
    Column("recall", Float),
    Column("boundary_f1", Float),
    Index("labels_time", "model_name", "label_time"),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("when", UtcTime, nullable=False),
    Column("action", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("from_stage", Text),
    Column("to_stage", Text),
    Column("digest", Text),
    # Canonical JSON as text: a JSON column may come back with other spacing or key order, and break the hash.
    Column("gates", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("previous_hash", Text, nullable=False),
    Column("row_hash", Text, nullable=False),
)

# The end of the chain: what an append locks, and how a removed last row is noticed.
audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", Integer, nullable=False),
    Column("row_hash", Text, nullable=False),
)


@event.listens_for(audit, "after_create")
def _make_append_only(_table: Table, connection: Connection, **_: Any) -> None:
    for statement in _APPEND_ONLY.get(connection.dialect.name, ()):
        connection.exec_driver_sql(statement)


_APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit "
        "BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END"
        for verb in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'audit is append-only'; END $$",
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()",
    ],
}
