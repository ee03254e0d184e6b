"""Databases of an older release, and what a database of any release holds: for tests of upgrades."""

from datetime import UTC, datetime
from typing import Any

from records_release_2 import evaluations, open_as_release_2
from records_rows import decide
from sqlalchemy import Engine, Inspector, inspect, select, text

from records import ledger, schema

WHEN = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)


def of_release_2(url: str) -> Engine:
    """A database with two decisions and two measurements, of the release before Alembic."""
    engine = open_as_release_2(url)
    decide(engine, "first")
    decide(engine, "second")
    rows = [
        {"version_digest": f"sha256:{name}", "fingerprint": "sha256:test", "measured_at": WHEN, "content": name}
        for name in "ab"
    ]
    if engine.dialect.name == "sqlite":
        rows = [row | {"measured_at": WHEN.replace(tzinfo=None)} for row in rows]
    with engine.begin() as connection:
        connection.execute(evaluations.insert(), rows)
    return engine


def revision(engine: Engine) -> str | None:
    if not inspect(engine).has_table("resunet_alembic_version"):
        return None
    with engine.connect() as connection:
        return connection.scalar(select(ledger.revision_table.c.version_num))


def shape(engine: Engine, names: set[str] | None = None) -> dict[str, Any]:
    """Everything of the platform's that the database itself holds: tables, views and triggers."""
    found = inspect(engine)
    log = set(schema.metadata.tables)
    tables = {name: _table(found, name) for name in names or set(found.get_table_names()) - log}
    with engine.connect() as connection:
        triggers = (
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
            if engine.dialect.name == "sqlite"
            else "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname"
        )
        return tables | {
            "views": {name: found.get_view_definition(name) for name in found.get_view_names()},
            "triggers": [tuple(row) for row in connection.execute(text(triggers))],
        }


def _table(found: Inspector, name: str) -> Any:
    columns = [
        (column["name"], str(column["type"]), column["nullable"], column["default"])
        for column in found.get_columns(name)
    ]
    indexes = [(index["name"], index["column_names"]) for index in found.get_indexes(name)]
    return columns, found.get_pk_constraint(name)["constrained_columns"], sorted(indexes)
