"""evidence, to which the rows of evaluations are carried over; approvals, verdicts, identities"""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0002"
down_revision = "0001"


def upgrade(op: Operations) -> None:
    """Make what decisions rest on, from what was measured before."""
    op.create_table(
        "evidence",
        sa.Column("version_digest", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.Text, primary_key=True),
        sa.Column("champion_digest", sa.Text, primary_key=True),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("measured_by", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
    )
    op.create_index("evidence_uses", "evidence", ["fingerprint", "kind"])
    op.create_table(
        "approvals",
        sa.Column("version_digest", sa.Text, primary_key=True),
        sa.Column("stage", sa.Text, primary_key=True),
        sa.Column("who", sa.Text, primary_key=True),
        sa.Column("when", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "verdicts",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("model_name", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("version_digest", sa.Text, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("champion_digest", sa.Text, nullable=False),
        sa.Column("policy_digest", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("allowed", sa.Integer, nullable=False),
        sa.Column("gates", sa.Text, nullable=False),
        sa.Column("asked_by", sa.Text, nullable=False),
        sa.Column("when", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("verdicts_of", "verdicts", ["model_name", "version", "stage", "id"])
    op.create_table(
        "identities",
        sa.Column("model_name", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("created_ms", sa.BigInteger, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("version_digest", sa.Text, nullable=False),
    )
    _carry_over(op)


def _carry_over(op: Operations) -> None:
    op.execute(
        "INSERT INTO evidence (version_digest, kind, fingerprint, champion_digest, measured_at, measured_by, content) "
        "SELECT version_digest, 'scores', fingerprint, '', measured_at, 'unknown', content FROM evaluations"
    )
    op.drop_table("evaluations")
    # Servers of the release before go on logging to this database, and make what they miss when they open it: some
    # with a role that may not make tables, and others would leave an empty table here. They find this, and need no
    # more of it. DISTINCT, because PostgreSQL would let them write through a view without it.
    op.execute(
        "CREATE VIEW evaluations AS SELECT DISTINCT version_digest, fingerprint, measured_at, content FROM evidence "
        "WHERE kind = 'scores' AND champion_digest = ''"
    )
