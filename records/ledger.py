"""The platform's tables. One definition for SQLite and PostgreSQL.

`audit` holds the hash-chained decisions; `evidence`, `approvals`, `verdicts` and `identities` what they rest on. The
inference log is not here (`records.schema`).

These definitions are what a database looks like after the last step in `records/migrations`: a change here is one more
step there, and its number at the end of REVISIONS.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text

from records.schema import UtcTime

# The first is what the release before Alembic made, which kept no note of it.
REVISIONS = ("0001", "0002")
FIRST_REVISION, HEAD = REVISIONS[0], REVISIONS[-1]

metadata = MetaData()

# Alembic's own, and made by it: `alembic_version` is MLflow's.
revision_table = Table(
    "resunet_alembic_version", MetaData(), Column("version_num", String(32), primary_key=True, nullable=False)
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


# What was measured of a version after it was registered (`records.evidence`).
evidence = Table(
    "evidence",
    metadata,
    Column("version_digest", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    # Of the test rows that it was measured on; empty where no images matter.
    Column("fingerprint", Text, primary_key=True),
    # Of the version that it was measured beside; empty where there was none.
    Column("champion_digest", Text, primary_key=True),
    Column("measured_at", UtcTime, nullable=False),
    Column("measured_by", Text, nullable=False),
    Column("content", Text, nullable=False),
    Index("evidence_uses", "fingerprint", "kind"),
)

# Who has agreed that these bytes may go to a stage (`records.approvals`).
approvals = Table(
    "approvals",
    metadata,
    Column("version_digest", Text, primary_key=True),
    Column("stage", Text, primary_key=True),
    Column("who", Text, primary_key=True),
    Column("when", UtcTime, nullable=False),
    Column("reason", Text, nullable=False),
)

# What the gates said, and of what exactly (`records.verdicts`); rows are added, never changed.
verdicts = Table(
    "verdicts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model_name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("version_digest", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("champion_digest", Text, nullable=False),
    Column("policy_digest", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("allowed", Integer, nullable=False),
    # JSON: of each gate its outcome, what it saw, what to do, and what the policy made of it.
    Column("gates", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("when", UtcTime, nullable=False),
    Index("verdicts_of", "model_name", "version", "stage", "id"),
)

# Which bytes a registered number stands for (`records.identities`): numbers start again when a model is made again.
identities = Table(
    "identities",
    metadata,
    Column("model_name", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    # As the registry noted it, in milliseconds, with the place of its files.
    Column("created_ms", BigInteger, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("version_digest", Text, nullable=False),
)
