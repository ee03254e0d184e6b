"""The tables of `records.quarantine`. One definition for SQLite and PostgreSQL.

What is decided stays: triggers refuse to change or delete a row of `batch_decisions`, or to write over one.
"""

from sqlalchemy import DDL, JSON, Boolean, Column, Float, Index, MetaData, Table, Text, event

from records.schema import UtcTime

metadata = MetaData()

batches = Table(
    "batches",
    metadata,
    Column("batch_id", Text, primary_key=True),
    Column("model_name", Text, nullable=False),
    Column("made", UtcTime, nullable=False),
    Column("window_start", UtcTime, nullable=False),
    Column("window_end", UtcTime, nullable=False),
    Column("of_clients", Boolean, nullable=False),
    # What `prepare` said, when, and of which content; NULL: it was not asked.
    Column("refusals", JSON(none_as_null=True)),
    Column("checked_digest", Text),
    Column("checked", UtcTime),
)

batch_images = Table(
    "batch_images",
    metadata,
    Column("batch_id", Text, primary_key=True),
    Column("answer_id", Text, primary_key=True),
    Column("source", Text, nullable=False),
    Column("event_time", UtcTime, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("slice", Text),
    Column("group", Text),
    Column("dice", Float),
    Column("image_sha256", Text, nullable=False),
    Column("mask_sha256", Text, nullable=False),
    Column("split_key", Text),
    Column("left_out", Text),
    Index("batch_images_answer", "answer_id"),
)

batch_decisions = Table(
    "batch_decisions",
    metadata,
    # One a batch.
    Column("batch_id", Text, primary_key=True),
    Column("verdict", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("when", UtcTime, nullable=False),
    Column("digest", Text, nullable=False),
)

batch_uses = Table(
    "batch_uses",
    metadata,
    Column("batch_id", Text, primary_key=True),
    Column("model_version", Text, primary_key=True),
    Column("run_id", Text, primary_key=True),
    Column("when", UtcTime, nullable=False),
)

_REFUSE = "BEGIN SELECT RAISE(ABORT, 'batch_decisions is append-only'); END"
_SQLITE = (
    f"CREATE TRIGGER batch_decisions_no_update BEFORE UPDATE ON batch_decisions {_REFUSE}",
    f"CREATE TRIGGER batch_decisions_no_delete BEFORE DELETE ON batch_decisions {_REFUSE}",
    # REPLACE fires no DELETE trigger.
    "CREATE TRIGGER batch_decisions_once BEFORE INSERT ON batch_decisions "
    f"WHEN EXISTS (SELECT 1 FROM batch_decisions WHERE batch_id = NEW.batch_id) {_REFUSE}",
)
_POSTGRESQL = (
    "CREATE OR REPLACE FUNCTION batch_decisions_append_only() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'batch_decisions is append-only'; END $$",
    "CREATE TRIGGER batch_decisions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON batch_decisions "
    "FOR EACH STATEMENT EXECUTE FUNCTION batch_decisions_append_only()",
)
for _dialect, _statements in (("sqlite", _SQLITE), ("postgresql", _POSTGRESQL)):
    for _statement in _statements:
        _made: DDL = DDL(_statement)  # type: ignore[no-untyped-call]
        event.listen(batch_decisions, "after_create", _made.execute_if(dialect=_dialect))
