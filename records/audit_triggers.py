"""The part of the audit chain's protection that the database itself holds: rows are added at the end, and stay.

    protect(connection)    # in the transaction that makes the tables; makes what is missing, also in an older database

A row of `audit` is accepted only as the next one after `audit_head`; `audit_head` only moves on by one, to a row that
is there. That holds for every way to write a row, `INSERT OR REPLACE` and `ON CONFLICT DO UPDATE` included: SQLite's
REPLACE fires no DELETE trigger, so the INSERT is what has to be refused.
"""

from sqlalchemy import Connection, text

GENESIS = "0" * 64

_REFUSE = "BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END"
# `IS NOT` holds where a side is NULL too. A seq that is left out is -1 in a BEFORE trigger: refused like any other.
_SQLITE = {
    "audit_no_update": "BEFORE UPDATE ON audit",
    "audit_no_delete": "BEFORE DELETE ON audit",
    "audit_only_next": "BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE seq >= NEW.seq) "
    "OR NEW.seq IS NOT COALESCE((SELECT MAX(seq) FROM audit_head), 0) + 1 "
    f"OR NEW.previous_hash IS NOT COALESCE((SELECT row_hash FROM audit_head), '{GENESIS}')",
    "audit_head_once": "BEFORE INSERT ON audit_head WHEN EXISTS (SELECT 1 FROM audit_head) "
    "OR NEW.id IS NOT 1 OR NEW.seq IS NOT 1 "
    "OR NOT EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq AND row_hash = NEW.row_hash)",
    "audit_head_onward": "BEFORE UPDATE ON audit_head WHEN NEW.id IS NOT OLD.id OR NEW.seq IS NOT OLD.seq + 1 "
    "OR NOT EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq AND row_hash = NEW.row_hash)",
    "audit_head_stays": "BEFORE DELETE ON audit_head",
}

_FUNCTION = (
    "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN {body} RAISE EXCEPTION 'audit is append-only'; END $$"
)
_NOTED_ROW_IS_THERE = "EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq AND row_hash = NEW.row_hash)"
_POSTGRESQL_FUNCTIONS = {
    "audit_append_only": "",
    "audit_only_next": "IF NOT EXISTS (SELECT 1 FROM audit WHERE seq >= NEW.seq) "
    "AND NEW.seq = COALESCE((SELECT MAX(seq) FROM audit_head), 0) + 1 "
    f"AND NEW.previous_hash = COALESCE((SELECT row_hash FROM audit_head), '{GENESIS}') THEN RETURN NEW; END IF;",
    "audit_head_once": "IF NOT EXISTS (SELECT 1 FROM audit_head) AND NEW.id = 1 AND NEW.seq = 1 "
    f"AND {_NOTED_ROW_IS_THERE} THEN RETURN NEW; END IF;",
    "audit_head_onward": "IF NEW.id = OLD.id AND NEW.seq = OLD.seq + 1 "
    f"AND {_NOTED_ROW_IS_THERE} THEN RETURN NEW; END IF;",
}
_POSTGRESQL = {
    "audit_append_only": "BEFORE UPDATE OR DELETE OR TRUNCATE ON audit FOR EACH STATEMENT "
    "EXECUTE FUNCTION audit_append_only()",
    "audit_only_next": "BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_only_next()",
    "audit_head_stays": "BEFORE DELETE OR TRUNCATE ON audit_head FOR EACH STATEMENT "
    "EXECUTE FUNCTION audit_append_only()",
    "audit_head_once": "BEFORE INSERT ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_head_once()",
    "audit_head_onward": "BEFORE UPDATE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_head_onward()",
}


def is_protected(connection: Connection) -> bool:
    """Whether every trigger is there: a look, which needs no more than the right to read."""
    return not _missing(connection)


def protect(connection: Connection) -> None:
    """Make the triggers that are missing or are not as they should be; the tables are there."""
    missing = _missing(connection)
    if missing and connection.dialect.name == "postgresql":
        for name, body in _POSTGRESQL_FUNCTIONS.items():
            connection.exec_driver_sql(_FUNCTION.format(name=name, body=body))
    for name, statement in missing.items():
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
        connection.exec_driver_sql(statement)


def _missing(connection: Connection) -> dict[str, str]:
    """The statements that make what is missing, by name."""
    if connection.dialect.name == "sqlite":
        query = text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        made = {row.name: row.sql for row in connection.execute(query)}
        wanted = {name: f"CREATE TRIGGER {name} {when} {_REFUSE}" for name, when in _SQLITE.items()}
        return {name: statement for name, statement in wanted.items() if made.get(name) != statement}
    # By name alone: whoever may only add rows could not make them anew, and has no need to.
    query = text("SELECT tgname FROM pg_trigger WHERE tgrelid IN (to_regclass('audit'), to_regclass('audit_head'))")
    found = set(connection.execute(query).scalars())
    return {name: f"CREATE TRIGGER {name} {when}" for name, when in _POSTGRESQL.items() if name not in found}
