"""The tables. One definition for SQLite and PostgreSQL.

`predictions` holds one row an answered (or refused) image, with one float column a descriptor, named as in
`resunet.descriptors`; `labels` the scores of a prediction once its truth is known; `audit` the hash-chained
decisions; `evaluations` what was measured of a version later. Masks and images are never here.

A `request_id` is the client's word, and clients reuse them: the key of `predictions` is `answer_id`, which
also covers the image (see `records.rows.answer_id`). Of a request that was sent again unchanged the first row
stays. A label names its prediction by `request_id`: where several answers of a version share it, whoever joins
the two must refuse the label as ambiguous; neither the first nor the latest answer may be guessed.
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

from records.audit_triggers import protect
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS

SCHEMA_VERSION = 2

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
    # The key of idempotent draining, and the name of the mask in the blob store.
    Column("answer_id", Text, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("event_time", UtcTime, nullable=False),
    Column("model_digest", Text, nullable=False),
    Column("client", Text),
    Column("slice", Text),
    Column("engine", Text),
    Column("status", Text, nullable=False),
    # sha256 of the encoded image, as it was sent.
    Column("image_digest", Text),
    Column("threshold", Float),
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
    # For labels, which name a request.
    Index("predictions_request", "model_name", "request_id"),
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


# What was measured of a version after it was registered: evidence that its own files cannot hold any more.
evaluations = Table(
    "evaluations",
    metadata,
    Column("version_digest", Text, primary_key=True),
    # Of the test rows that it was measured on.
    Column("fingerprint", Text, primary_key=True),
    Column("measured_at", UtcTime, nullable=False),
    Column("content", Text, nullable=False),
)


# Of the metadata, not of a table: an older database gets what it lacks when it is opened.
@event.listens_for(metadata, "after_create")
def _protect_audit(_metadata: MetaData, connection: Connection, **_: Any) -> None:
    protect(connection)
