"""The tables of `records.quarantine`. One definition for SQLite and PostgreSQL.

What is decided stays: triggers refuse to change or delete a row of `batch_decisions` or `batch_withdrawals`, or to
write over one.
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

# A release that somebody has taken back: one a batch, beside the decision, which stays.
batch_withdrawals = Table(
    "batch_withdrawals",
    metadata,
    Column("batch_id", Text, primary_key=True),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("when", UtcTime, nullable=False),
)


def _sqlite(table: str) -> tuple[str, ...]:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    return (
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}",
        # REPLACE fires no DELETE trigger.
        f"CREATE TRIGGER {table}_once BEFORE INSERT ON {table} "
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE batch_id = NEW.batch_id) {refuse}",
    )


def _postgresql(table: str) -> tuple[str, ...]:
    return (
        f"CREATE OR REPLACE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$",
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_append_only()",
    )


for _table in (batch_decisions, batch_withdrawals):
    for _dialect, _statements in (("sqlite", _sqlite(_table.name)), ("postgresql", _postgresql(_table.name))):
        for _statement in _statements:
            _made: DDL = DDL(_statement)  # type: ignore[no-untyped-call]
            event.listen(_table, "after_create", _made.execute_if(dialect=_dialect))
