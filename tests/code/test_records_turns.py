"""The lock of decisions on PostgreSQL: one at a time, whoever waits, fails or dies."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from records_rows import decide
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from waiting import until

from records.database import make_engine, open_database
from records.turns import held
from resunet.errors import RecordsError

HOLD_FOR_EVER = """
import sys, time
from records.database import make_engine, open_database
from records.turns import held
with held(open_database(sys.argv[1]), 30):
    print("held", flush=True)
    time.sleep(600)
"""
LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"


@pytest.fixture
def ours(postgres_url: str) -> Iterator[Engine]:
    engine = open_database(postgres_url)
    yield engine
    engine.dispose()


@pytest.fixture
def theirs(postgres_url: str, ours: Engine) -> Iterator[Engine]:
    """The same database with connections of its own, as another process has them."""
    engine = open_database(postgres_url)
    yield engine
    engine.dispose()


def test_another_process_waits_for_its_turn(ours: Engine, theirs: Engine) -> None:
    told: list[str] = []

    def decide_too() -> None:
        with held(theirs, 60):
            told.append("theirs")

    with held(ours, 60):
        waiting = threading.Thread(target=decide_too)
        waiting.start()
        until(lambda: _waiting(ours) == 1)
        told.append("ours")
    waiting.join(timeout=60)
    assert told == ["ours", "theirs"]


@pytest.mark.parametrize("seconds", [0, 0.2])
@pytest.mark.parametrize("other", ["process", "thread"])
def test_who_waits_too_long_is_told_of_the_lock(ours: Engine, theirs: Engine, other: str, seconds: float) -> None:
    with ThreadPoolExecutor(1) as pool, held(ours, 60):
        waiting = pool.submit(_hold, theirs if other == "process" else ours, seconds)
        with pytest.raises(RecordsError, match="another change of stage has held the lock of decisions of the Postgre"):
            waiting.result(timeout=60)
    _hold(theirs, 60)


def test_who_gave_up_waits_as_long_as_ever_for_other_locks(ours: Engine, theirs: Engine) -> None:
    with held(ours, 60), pytest.raises(RecordsError):
        _hold(theirs, 0.1)
    for engine in (ours, theirs):
        assert engine.pool.checkedin() == 1  # type: ignore[attr-defined]
        with engine.connect() as connection:
            assert connection.scalar(text("SHOW lock_timeout")) == "0"


def test_an_error_in_a_decision_ends_its_turn_and_stays_what_it_is(ours: Engine, theirs: Engine) -> None:
    with pytest.raises(DBAPIError, match="no_such_table"), held(ours, 60), ours.connect() as connection:
        connection.exec_driver_sql("SELECT * FROM no_such_table")
    _hold(theirs, 5)
    _hold(ours, 5)


def test_a_killed_process_gives_up_its_turn(postgres_url: str, ours: Engine) -> None:
    command = [sys.executable, "-c", HOLD_FOR_EVER, postgres_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            with pytest.raises(RecordsError):
                _hold(ours, 0.1)
        finally:
            process.kill()
    _hold(ours, 30)


def test_more_threads_than_connections_all_get_their_turn(ours: Engine) -> None:
    inside: list[int] = []

    def turn(number: int) -> int:
        with held(ours, 120):
            inside.append(number)
            decide(ours, str(number))
            assert inside == [number]
            inside.remove(number)
        return number

    threads = 3 * 15  # the pool has 15 connections at most
    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(turn, range(threads))) == list(range(threads))


def test_a_connection_lost_in_a_turn_costs_neither_the_decision_nor_the_next_turn(ours: Engine, theirs: Engine) -> None:
    with held(ours, 60):
        with theirs.connect() as connection:
            holder = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            assert connection.execute(text(holder)).scalars().all() == [True]
        until(lambda: _locks(theirs) == 0)
        decide(ours)
    _hold(ours, 5)
    _hold(theirs, 5)


def test_a_database_that_is_down_is_told(postgres_url: str) -> None:
    engine = open_database(postgres_url)
    engine.dispose()
    gone = engine.url.set(database="never_made")
    with pytest.raises(RecordsError, match=r"never_made.* cannot be used"):
        _hold(make_engine(gone.render_as_string(hide_password=False)), 5)


def test_the_lock_is_given_back_when_a_turn_is_over(ours: Engine) -> None:
    with held(ours, 60):
        assert _locks(ours) == 1
    assert _locks(ours) == 0


def _hold(engine: Engine, seconds: float) -> None:
    with held(engine, seconds):
        time.sleep(0)


def _locks(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(text(LOCKS)) or 0)


def _waiting(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(text(f"{LOCKS} AND NOT granted")) or 0)
