"""Bring the platform's tables from one revision to the last, in the transaction that the caller began.

steps = migrate(connection, "0001")     # ("0002: evidence, approvals, …",)

Without Alembic's `env.py`, whose `alembic.op` and `alembic.context` are one a process: MLflow uses them too, and
threads may open databases at once. Each step in `records/migrations` is given its operations as an argument instead.
"""

from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from records.ledger import HEAD, revision_table


def scripts() -> ScriptDirectory:
    """The steps, as Alembic reads them."""
    folder = Path(__file__).with_name("migrations")
    return ScriptDirectory(folder, version_locations=[folder])


def migrate(connection: Connection, found: str | None, target: str = HEAD) -> tuple[str, ...]:
    """Take the steps from a revision to another.

    Args:
        connection: in a transaction that nobody else writes beside.
        found: the revision now, noted or not; None for an empty database.

    Returns:
        A line for each step, in order.
    """
    directory = scripts()
    revisions = list(directory.iterate_revisions(target, found or "base"))[::-1]
    steps = [MigrationStep.upgrade_from_script(directory.revision_map, revision) for revision in revisions]
    options = {"version_table": revision_table.name, "fn": lambda _heads, _context: steps}
    context = MigrationContext.configure(connection, opts=options)
    context.run_migrations(op=Operations(context))
    return tuple(f"{revision.revision}: {revision.doc}" for revision in revisions)
