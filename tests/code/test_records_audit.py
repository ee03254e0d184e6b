"""The audit chain: what was decided cannot be changed unnoticed."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from records_rows import NOON, decide
from sqlalchemy import Engine, delete, func, select, text, update
from sqlalchemy.exc import IntegrityError

from records import audit as chain
from records.database import open_database
from records.ledger import audit, audit_head
from resunet.errors import RecordsError


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return open_database(f"sqlite:///{tmp_path}/records.db")


@pytest.fixture
def decided(engine: Engine) -> Engine:
    """Five decisions, and the triggers gone: whoever tampers has that right."""
    for number in range(1, 6):
        decide(engine, f"reason {number}")
    drop_triggers(engine)
    return engine


def triggers(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        query = text("SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
        return list(connection.execute(query).scalars())


def drop_triggers(engine: Engine) -> None:
    for name in triggers(engine):
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")


def test_a_decision_comes_back_as_it_was_made(engine: Engine) -> None:
    made = decide(
        engine,
        gates={"b": (1, 2.5), "a": {"nan": float("inf")}},
        when=NOON.astimezone(timezone(timedelta(hours=11))),
        reason="é\0",
    )
    assert chain.history(engine, "resunet") == [made]
    assert made.gates == {"b": [1, 2.5], "a": {"nan": float("inf")}}
    assert (made.seq, made.previous_hash) == (1, chain.GENESIS)
    assert chain.verify(engine) is None


def test_history_is_of_one_model_in_order(engine: Engine) -> None:
    decide(engine, "first")
    decide(engine, "other", model_name="liver")
    decide(engine, "second", when=NOON - timedelta(days=1))
    assert [row.reason for row in chain.history(engine, "resunet")] == ["first", "second"]
    assert [row.reason for row in chain.history(engine)] == ["first", "other", "second"]


def test_an_empty_chain_holds(engine: Engine) -> None:
    assert chain.verify(engine) is None
    assert chain.head(engine) is None
    assert chain.verify(engine, chain.Head(1, "0" * 64)) is not None


def test_the_database_refuses_to_change_or_delete_a_decision(engine: Engine) -> None:
    decide(engine)
    for statement in (update(audit).values(actor="eve"), delete(audit)):
        with pytest.raises(IntegrityError, match="append-only"), engine.begin() as connection:
            connection.execute(statement)
    assert chain.verify(engine) is None


FORGED = "SELECT {seq}, \"when\", action, 'eve', model_name, version, from_stage, to_stage, digest, gates, reason"
WAYS_IN = {
    "replace": f"INSERT OR REPLACE INTO audit {FORGED.format(seq=1)}, previous_hash, row_hash FROM audit",
    "upsert": f"INSERT INTO audit {FORGED.format(seq=1)}, previous_hash, row_hash FROM audit WHERE true "
    "ON CONFLICT (seq) DO UPDATE SET actor = 'eve'",
    "gap": f"INSERT INTO audit {FORGED.format(seq=3)}, row_hash, 'x' FROM audit",
    "before the first": f"INSERT INTO audit {FORGED.format(seq=0)}, row_hash, 'x' FROM audit",
    "unchained": f"INSERT INTO audit {FORGED.format(seq=2)}, previous_hash, 'x' FROM audit",
    "end removed": "DELETE FROM audit_head",
    "end set back": "UPDATE audit_head SET seq = 0",
    "end set ahead": "UPDATE audit_head SET seq = 2",
    "end of another hash": "UPDATE audit_head SET row_hash = 'x'",
    "end replaced": "INSERT OR REPLACE INTO audit_head VALUES (1, 1, 'x')",
    "second end": "INSERT INTO audit_head SELECT 2, seq, row_hash FROM audit",
}


@pytest.mark.parametrize("statement", WAYS_IN.values(), ids=WAYS_IN.keys())
def test_no_statement_changes_a_row_or_the_end_of_the_chain(engine: Engine, statement: str) -> None:
    made = decide(engine)
    with pytest.raises(IntegrityError, match="append-only"), engine.begin() as connection:
        connection.exec_driver_sql(statement)
    assert chain.history(engine) == [made]
    assert chain.verify(engine) is None


def test_the_end_of_the_chain_does_not_move_back(engine: Engine) -> None:
    first = decide(engine)
    decide(engine)
    back = update(audit_head).values(seq=1, row_hash=first.row_hash)
    with pytest.raises(IntegrityError, match="append-only"), engine.begin() as connection:
        connection.execute(back)


def test_a_lost_end_opens_no_way_to_write_the_rows_anew(decided: Engine) -> None:
    with decided.begin() as connection:
        connection.execute(delete(audit_head))
    reopened = open_database(str(decided.url))
    anew = f"INSERT OR REPLACE INTO audit {FORGED.format(seq=1)}, '{chain.GENESIS}', 'x' FROM audit WHERE seq = 1"
    with pytest.raises(IntegrityError, match="append-only"), reopened.begin() as connection:
        connection.exec_driver_sql(anew)


def test_a_database_of_an_older_release_is_protected_when_it_is_opened(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    engine = open_database(url)
    whole = triggers(engine)
    drop_triggers(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT 1; END")
    decide(open_database(url))
    assert triggers(engine) == whole
    with pytest.raises(IntegrityError, match="append-only"), engine.begin() as connection:
        connection.execute(update(audit).values(actor="eve"))


@pytest.mark.parametrize("column", [c.name for c in audit.c if c.name not in ("seq", "when")])
def test_a_changed_field_is_found(decided: Engine, column: str) -> None:
    with decided.begin() as connection:
        connection.execute(update(audit).where(audit.c.seq == 3).values({column: '"forged"'}))
    broken = chain.verify(decided)
    assert broken is not None
    assert broken.seq == 3


def test_a_changed_time_is_found(decided: Engine) -> None:
    with decided.begin() as connection:
        later = NOON + timedelta(microseconds=1)
        connection.execute(update(audit).where(audit.c.seq == 3).values(when=later))
    assert chain.verify(decided) == chain.BrokenRow(3, "its content was changed")


@pytest.mark.parametrize("seq", [1, 3, 5])
def test_a_removed_row_is_found(decided: Engine, seq: int) -> None:
    with decided.begin() as connection:
        connection.execute(delete(audit).where(audit.c.seq == seq))
    broken = chain.verify(decided)
    assert broken is not None
    assert broken.seq == seq
    assert "removed" in broken.why


def test_a_removed_row_is_found_when_the_others_are_renumbered(decided: Engine) -> None:
    with decided.begin() as connection:
        connection.execute(delete(audit).where(audit.c.seq == 3))
        for seq in (4, 5):
            connection.execute(update(audit).where(audit.c.seq == seq).values(seq=seq - 1))
    assert chain.verify(decided) == chain.BrokenRow(3, "it does not follow the row before it")


def test_reordered_rows_are_found(decided: Engine) -> None:
    with decided.begin() as connection:
        for old, new in ((2, 99), (3, 2), (99, 3)):
            connection.execute(update(audit).where(audit.c.seq == old).values(seq=new))
    broken = chain.verify(decided)
    assert broken is not None
    assert broken.seq == 2


def test_gates_that_are_no_longer_json_are_found(decided: Engine) -> None:
    with decided.begin() as connection:
        connection.execute(update(audit).where(audit.c.seq == 2).values(gates="{"))
    assert chain.verify(decided) == chain.BrokenRow(2, "its content was changed")


@pytest.mark.parametrize("garbled", ["yesterday", "", "2026-13-01 00:00:00.000000", b"\xff", 7])
def test_a_time_that_is_no_time_is_found(decided: Engine, garbled: object) -> None:
    with decided.begin() as connection:
        connection.exec_driver_sql('UPDATE audit SET "when" = ? WHERE seq = 4', (garbled,))
    assert chain.verify(decided) == chain.BrokenRow(4, "its content was changed")
    with pytest.raises(RecordsError, match="audit verify"):
        chain.history(decided)


def test_a_chain_without_its_end_is_broken_and_takes_no_row(decided: Engine) -> None:
    with decided.begin() as connection:
        connection.execute(delete(audit_head))
    assert chain.verify(decided) == chain.BrokenRow(5, "the note that it is the chain's end was removed")
    with pytest.raises(RecordsError, match="lost the note of its end"):
        decide(decided)


def test_a_row_behind_the_end_is_found(decided: Engine) -> None:
    """Whole and chained, but the note of the end was not moved with it: no command added it."""
    with decided.begin() as connection:
        connection.execute(delete(audit).where(audit.c.seq == 5))
        third = select(audit.c.row_hash).where(audit.c.seq == 3).scalar_subquery()
        connection.execute(update(audit_head).values(seq=3, row_hash=third))
    assert chain.verify(decided) == chain.BrokenRow(4, "it lies behind the noted end of the chain")


def forge_all(engine: Engine) -> None:
    """Rewrite the whole chain, hashes and head included."""
    rows = chain.history(engine)
    with engine.begin() as connection:
        connection.execute(delete(audit))
        connection.execute(delete(audit_head))
    for row in rows:
        decide(engine, "forged " + row.reason)


def cut_the_end(engine: Engine) -> None:
    """Remove the last row and set the head back."""
    with engine.begin() as connection:
        connection.execute(delete(audit).where(audit.c.seq == 5))
        fourth = connection.execute(select(audit.c.row_hash).where(audit.c.seq == 4)).scalar_one()
        connection.execute(update(audit_head).values(seq=4, row_hash=fourth))


@pytest.mark.parametrize("forge", [forge_all, cut_the_end])
def test_a_noted_head_uncovers_who_rewrote_all(decided: Engine, forge: Callable[[Engine], None]) -> None:
    noted = chain.head(decided)
    assert chain.verify(decided, noted) is None
    forge(decided)
    assert chain.verify(decided) is None
    broken = chain.verify(decided, noted)
    assert broken is not None
    assert broken.seq == 5


def test_a_noted_head_still_holds_after_more_decisions(decided: Engine) -> None:
    noted = chain.head(decided)
    decide(decided)
    assert chain.verify(decided, noted) is None


def test_threads_append_to_one_chain(engine: Engine) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: decide(engine, str(number)), range(40)))
    assert chain.verify(engine) is None
    assert {row.reason for row in chain.history(engine)} == {str(number) for number in range(40)}


def test_processes_append_to_one_chain(engine: Engine) -> None:
    script = (
        "import sys\n"
        "from records.database import open_database\n"
        "from records_rows import decide\n"
        "engine = open_database(sys.argv[1])\n"
        "for number in range(20): decide(engine)\n"
    )
    command = [sys.executable, "-c", script, str(engine.url)]
    running = [subprocess.Popen(command, cwd=Path(__file__).parent) for _ in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert chain.verify(engine) is None
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(audit)) == 40


@pytest.mark.parametrize(
    "changes", [{"when": NOON.replace(tzinfo=None)}, {"gates": {"dice": object()}}, {"gates": {(1, 2): 3}}]
)
def test_what_cannot_be_stored_is_refused(engine: Engine, changes: dict[str, Any]) -> None:
    with pytest.raises(RecordsError):
        decide(engine, **changes)
    assert chain.verify(engine) is None
