"""Open the platform's database: decisions and what they rest on (`records.ledger`).

    engine = open_database("sqlite:////var/lib/resunet/records.db")
    engine = open_database("postgresql+psycopg://resunet@db.example/resunet")

Its tables change by Alembic, whose note of the revision is in a table of its own name: MLflow's may lie beside it. The
inference log, in this database or another, is opened by `records.log_database`, which does without any of this.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, Engine, inspect, select

from records.audit_triggers import is_protected, protect
from records.engines import describe, exclusive, explained, make_engine, make_folder
from records.ledger import FIRST_REVISION, HEAD, REVISIONS, audit, revision_table
from records.log_database import open_log, stored_format
from records.turns import held
from resunet.errors import RecordsError

__all__ = ["describe", "exclusive", "explained", "held", "make_engine", "open_database", "open_log", "upgrade"]

# What a database without a note of its revision says that it is, if it is of the release before Alembic.
_FORMAT_OF_FIRST_REVISION = 2


@dataclass(frozen=True)
class Upgraded:
    """What an upgrade did.

    Attributes:
        before: revision that was found; None where the database was empty.
        steps: a line for each revision that was added; none where there was nothing to do.
    """

    before: str | None
    steps: tuple[str, ...]


def open_database(url: str) -> Engine:
    """Connect, make the tables in an empty database, and check the revision.

    The folder of a SQLite file is made when only its last part is missing.

    Args:
        url: `sqlite:///path` or `postgresql+psycopg://user:password@host/name`.

    Raises:
        RecordsError: the URL makes no sense, the database does not answer, or another release made it.
    """
    engine = make_engine(url)
    prepare(engine)
    return engine


def prepare(engine: Engine) -> None:
    """Make the tables in an empty database and refuse one of another release; safe from many processes at once.

    Raises:
        RecordsError: the database does not answer, or another release made it.
    """
    make_folder(engine)
    with explained(engine):
        # Most find everything: reading needs no lock, and no right to make tables.
        with engine.connect() as connection:
            if _known_revision(engine, connection) == HEAD and is_protected(connection):
                return
        with exclusive(engine) as connection:
            found = _known_revision(engine, connection)
            if found not in (None, HEAD):
                raise RecordsError(
                    f"{describe(engine)} was made by an older release (revision {found}, this release needs {HEAD}): "
                    f"{backup_hint(engine)}, and run `python -m records upgrade`"
                )
            _bring_to_head(connection, found)


def upgrade(engine: Engine) -> Upgraded:
    """Bring a database to this release's revision, all of it or nothing; safe from many processes at once.

    Raises:
        RecordsError: the database does not answer, or is not of this release or one before it.
    """
    make_folder(engine)
    with explained(engine), exclusive(engine) as connection:
        found = _known_revision(engine, connection)
        return Upgraded(found, _bring_to_head(connection, found))


def backup_hint(engine: Engine) -> str:
    """What to do before an upgrade."""
    if engine.url.get_backend_name() != "sqlite":
        return "stop the server, back it up with pg_dump"
    path = engine.url.database
    return f"stop the server, copy {path} (and {path}-wal, if it is there) to a safe place"


def _bring_to_head(connection: Connection, found: str | None) -> tuple[str, ...]:
    steps: tuple[str, ...] = ()
    if found != HEAD:
        # Here, not at the top: nobody else needs Alembic.
        from records.migrate import migrate

        steps = migrate(connection, found)
    protect(connection)
    return steps


def _known_revision(engine: Engine, connection: Connection) -> str | None:
    """The revision of the platform's tables, one of this release's; None where there are none."""
    found = _stored_revision(engine, connection)
    if found is not None and found not in REVISIONS:
        raise RecordsError(
            f"{describe(engine)} was made by a newer release (revision {found}, this release knows {HEAD}): upgrade "
            "this release, or set another database URL"
        )
    return found


def _stored_revision(engine: Engine, connection: Connection) -> str | None:
    if inspect(connection).has_table(revision_table.name):
        noted: str | None = connection.scalar(select(revision_table.c.version_num))
        if noted is not None:
            return noted
    if not inspect(connection).has_table(audit.name):
        return None
    found = stored_format(connection)
    if found == _FORMAT_OF_FIRST_REVISION:
        return FIRST_REVISION
    if found is None:
        raise RecordsError(
            f"{describe(engine)} has a table `{audit.name}` that is not the platform's: set another database URL"
        )
    raise RecordsError(
        f"{describe(engine)} was made by another release (schema {found}), which this one cannot upgrade: set another "
        "database URL, and keep the old one for reading"
    )
