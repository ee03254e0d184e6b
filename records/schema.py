"""The tables of the inference log. One definition for SQLite and PostgreSQL.

`predictions` holds one row an answered (or refused) image, with one float column a descriptor, named as in
`resunet.descriptors`; `labels` the scores of a prediction once its truth is known. Masks and images are never here.

A `request_id` is the client's word, and clients reuse them: the key of `predictions` is `answer_id`, which
also covers the image (see `records.rows.answer_id`). Of a request that was sent again unchanged the first row
stays. A label names its prediction by `request_id`: where several answers of a version share it, whoever joins
the two must refuse the label as ambiguous; neither the first nor the latest answer may be guessed.

Every served version writes here with the release that made it, and in an environment without Alembic. SCHEMA_VERSION
stays as it is while older releases can still do so: a column may be added if it may be NULL. They refuse a higher
number, and their predictions wait until somebody serves a newer version.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.types import TypeDecorator

from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS

SCHEMA_VERSION = 2

ROUTES = ("production", "canary", "shadow", "batch")
# A batch job may score last year's archive: that is no sign of what clients send now.
LIVE_ROUTES = ("production", "canary", "shadow")
# What clients are answered by: the shadow answers nobody.
ANSWERING_ROUTES = ("production", "canary")
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
# Of `labels`, added by a later release.
LABEL_COLUMNS: tuple[str, ...] = ("pixels",)

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
    # Pixels by true and predicted class, JSON [[true, predicted, pixels], …] of those that are not 0. An earlier
    # release does not write them, and leaves those of the label before: see `records.labels.pixels_of`.
    Column("pixels", Text),
    Index("labels_time", "model_name", "label_time"),
)
