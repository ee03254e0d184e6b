"""The same promises on a real PostgreSQL, which is stopped and started."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from records_databases import patiently
from records_rows import NOON, decide, minutes, prediction, stored_ids
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError, ProgrammingError
from waiting import until

from records import audit as chain
from records.database import open_database
from records.inference import InferenceLog, read_window, versions_in_window
from records.ledger import audit
from records.log_database import open_log
from resunet.errors import RecordsError


def test_a_row_survives_the_round_trip(postgres_url: str, tmp_path: Path) -> None:
    log = InferenceLog.open(postgres_url, tmp_path / "home")
    rows = [prediction("a\0\ud800é", width=31), prediction("b", event_time=NOON + minutes(1))]
    log.append([*reversed(rows), *rows])
    assert log.drain_now() == 4
    log.append(rows)
    log.drain_now()
    log.close()
    assert len(stored_ids(postgres_url)) == 2
    engine = open_log(postgres_url)
    (frame,) = read_window(engine, NOON, NOON + minutes(60), "resunet", chunk_rows=10)
    assert list(frame["event_time"]) == [NOON, NOON + minutes(1)]
    assert list(frame["width"]) == [31.0, 256.0]
    assert bytes(frame["embedding"][0]) == rows[0].embedding
    assert [len(part) for part in read_window(engine, NOON, NOON + minutes(1), "resunet", chunk_rows=1)] == [1]
    (activity,) = versions_in_window(engine, NOON, NOON + minutes(60), "resunet")
    assert (activity.rows, activity.refused) == (2, 0)
    engine.dispose()


def test_rows_wait_while_the_server_is_down_and_arrive_when_it_is_up(
    postgres: Any, postgres_url: str, tmp_path: Path
) -> None:
    log = InferenceLog.open(postgres_url, tmp_path / "home", drain_interval_s=0.01)
    log.append([prediction("before")])
    until(lambda: log.status().drained_rows == 1)
    postgres.stop()
    log.append([prediction("during")])
    with pytest.raises(RecordsError, match="PostgreSQL"):
        log.drain_now()
    started_in_the_dark = InferenceLog.open(postgres_url, tmp_path / "home")
    started_in_the_dark.append([prediction("dark")])
    patiently(postgres.start)
    until(lambda: log.status().pending_bytes == 0)
    log.close()
    started_in_the_dark.close()
    assert stored_ids(postgres_url) == ["before", "dark", "during"]


def test_a_row_postgres_refuses_does_not_hold_back_the_others(postgres_url: str, tmp_path: Path) -> None:
    engine = open_log(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE predictions ADD CHECK (request_id <> 'b')")
    log = InferenceLog.open(postgres_url, tmp_path / "home")
    log.append([prediction("a"), prediction("b"), prediction("c")])
    log.drain_now()
    log.close()
    assert stored_ids(postgres_url) == ["a", "c"]
    assert (tmp_path / "home" / "spool" / "rejected").is_dir()
    engine.dispose()


def test_decisions_form_one_chain_and_tampering_is_found(postgres_url: str) -> None:
    engine = open_database(postgres_url)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: decide(engine, str(number)), range(30)))
    assert [row.seq for row in chain.history(engine, "resunet")] == list(range(1, 31))
    assert chain.verify(engine) is None
    forge = update(audit).where(audit.c.seq == 7).values(actor="eve")
    with pytest.raises(ProgrammingError, match="append-only"), engine.begin() as connection:
        connection.execute(forge)
    for statement in (
        "INSERT INTO audit SELECT * FROM audit WHERE seq = 7 ON CONFLICT (seq) DO UPDATE SET actor = 'eve'",
        "TRUNCATE audit",
        "DELETE FROM audit_head",
        "TRUNCATE audit_head",
        "UPDATE audit_head SET seq = 29",
        "UPDATE audit_head SET row_hash = 'x'",
        "INSERT INTO audit_head VALUES (2, 30, 'x')",
    ):
        with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
            connection.exec_driver_sql(statement)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER audit_only_next ON audit")
    open_database(postgres_url).dispose()
    gap = 'seq + 24, "when", action, actor, model_name, version, from_stage, to_stage, digest, gates, reason'
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO audit SELECT {gap}, row_hash, 'x' FROM audit WHERE seq = 7")
    assert chain.verify(engine) is None
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER USER")
        connection.execute(forge)
    assert chain.verify(engine) == chain.BrokenRow(7, "its content was changed")
    engine.dispose()


def test_threads_open_a_new_database_at_once(postgres_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        for engine in pool.map(lambda _: open_database(postgres_url), range(4)):
            engine.dispose()
