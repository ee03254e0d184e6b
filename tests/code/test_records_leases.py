"""Leases: of all who ask for a job one has it, until it is given back or its time is up."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from records.engines import make_engine
from records.log_database import open_log
from records.tables import prepare
from records.watch import windows
from records.watch.jobs import JobState, alive, database_time, jobs, jobs_state, remove
from records.watch.leases import (
    Lease,
    LostLeaseError,
    acquire,
    beat,
    close_until,
    finish,
    holding,
    refuse_if_lost,
    release,
    start,
)
from resunet.errors import RecordsError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    opened = open_log(database_url)
    prepare(opened, jobs)
    yield opened
    opened.dispose()


def take(engine: Engine, holder: str, now: datetime = NOON) -> Lease:
    lease = acquire(engine, "report", holder, now, MINUTE)
    assert lease is not None
    return lease


def state(engine: Engine) -> JobState:
    (found,) = jobs_state(engine)
    return found


def test_there_are_no_jobs_before_the_first_one(database_url: str) -> None:
    opened = open_log(database_url)
    assert jobs_state(opened) == [] and not remove(opened, "report", NOON)
    opened.dispose()


def test_a_job_is_one_holders_until_its_time_is_up(engine: Engine) -> None:
    one = take(engine, "one")
    assert acquire(engine, "report", "other", NOON + MINUTE - SECOND, MINUTE) is None
    assert acquire(engine, "trend", "other", NOON, MINUTE) is not None
    assert beat(engine, one, NOON + 30 * SECOND, MINUTE)
    assert acquire(engine, "report", "other", NOON + MINUTE, MINUTE) is None
    other = take(engine, "other", NOON + 90 * SECOND)
    assert other.token > one.token
    assert not beat(engine, one, NOON + 91 * SECOND, MINUTE)
    with pytest.raises(LostLeaseError, match="another schedule has taken it over"), holding(engine, one):
        pass


def test_a_holder_that_was_cut_off_need_not_wait_for_itself(engine: Engine) -> None:
    first = take(engine, "one")
    assert take(engine, "one", NOON + SECOND).token > first.token


def test_of_many_who_ask_at_once_one_gets_it(engine: Engine) -> None:
    together = threading.Barrier(6)

    def ask(number: int) -> Lease | None:
        together.wait(30)
        return acquire(engine, "report", f"node{number}", NOON, MINUTE)

    with ThreadPoolExecutor(6) as pool:
        got = [lease for lease in pool.map(ask, range(6)) if lease is not None]
    assert len(got) == 1 and got[0].holder == state(engine).holder


def test_a_run_is_noted_from_its_start_to_its_end(engine: Engine) -> None:
    lease = take(engine, "one")
    with holding(engine, lease) as connection:
        start(connection, lease, NOON)
        close_until(connection, lease, NOON - MINUTE)
    assert state(engine).running(NOON) and not state(engine).running(NOON + MINUTE)
    with holding(engine, lease) as connection:
        finish(connection, lease, NOON + SECOND, outcome="ok", due=NOON + 60 * MINUTE)
    done = state(engine)
    assert (done.holder, done.lease_until, done.last_outcome, done.failures) == (None, None, "ok", 0)
    assert (done.last_started, done.last_finished, done.last_success) == (NOON, NOON + SECOND, NOON + SECOND)
    assert (done.due, done.window_end, done.heartbeat) == (NOON + 60 * MINUTE, NOON - MINUTE, NOON)
    # Given back, it is not this one's any more, although nobody else has it.
    assert not beat(engine, lease, NOON + SECOND, MINUTE)
    with pytest.raises(LostLeaseError), holding(engine, lease):
        pass


def test_failures_are_counted_until_it_goes_well_and_in_all(engine: Engine) -> None:
    for number, outcome in enumerate(("exit code 2: no", "exit code 2: no", "ok", "exit code 1: no")):
        lease = take(engine, "one", NOON + number * SECOND)
        with holding(engine, lease) as connection:
            finish(connection, lease, NOON + number * SECOND, outcome=outcome, due=None)
    found = state(engine)
    assert (found.failing, found.failures, found.failed) == (1, 3, True)
    assert found.last_success == NOON + 2 * SECOND


def test_a_holder_that_died_in_a_run_is_a_failure_and_one_that_gave_back_is_none(engine: Engine) -> None:
    lease = take(engine, "one")
    with holding(engine, lease) as connection:
        start(connection, lease, NOON)
    dead = state(engine)
    assert dead.overdue(NOON + MINUTE, 60 * MINUTE) and not dead.overdue(NOON + SECOND, 60 * MINUTE)
    lease = take(engine, "other", NOON + MINUTE)
    told = state(engine)
    assert (told.failures, told.last_outcome) == (
        1,
        "one ended, or was cut off from the database, while it ran this job",
    )
    with holding(engine, lease) as connection:
        release(connection, lease, due=NOON)
    take(engine, "third", NOON + MINUTE)
    assert state(engine).failures == 1


def test_nothing_of_a_transaction_is_kept_when_it_breaks(engine: Engine) -> None:
    prepare(engine, windows.job_windows)
    lease = take(engine, "one")
    with pytest.raises(ZeroDivisionError), holding(engine, lease) as connection:
        windows.close_windows(connection, "report", [(NOON - MINUTE, NOON)])
        finish(connection, lease, NOON, outcome="ok", due=None)
        raise ZeroDivisionError
    assert state(engine).holder == "one"
    with engine.connect() as connection:
        assert windows.windows_since(connection, "report", NOON - MINUTE) == []


def test_nobody_takes_a_job_over_while_its_holder_writes(engine: Engine) -> None:
    lease = take(engine, "one")
    late = NOON + 2 * MINUTE
    with ThreadPoolExecutor(1) as pool, holding(engine, lease) as connection:
        asking = pool.submit(acquire, engine, "report", "other", late, MINUTE)
        with pytest.raises(TimeoutError):
            asking.result(timeout=0.2)
        finish(connection, lease, late, outcome="ok", due=None)
    assert asking.result() is not None
    assert state(engine).last_outcome == "ok"


def test_what_a_command_of_a_lost_lease_wrote_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine.begin() as connection:
        refuse_if_lost(connection)  # started by a person: there is no lease
    lease = take(engine, "one")
    for name, value in lease.environment.items():
        monkeypatch.setenv(name, value)
    with engine.begin() as connection:
        refuse_if_lost(connection)
    take(engine, "other", NOON + MINUTE)
    with engine.begin() as connection, pytest.raises(LostLeaseError, match="report: another schedule"):
        refuse_if_lost(connection)


def test_a_job_that_runs_is_not_removed(engine: Engine) -> None:
    lease = take(engine, "one")
    assert not remove(engine, "report", NOON)
    with holding(engine, lease) as connection:
        release(connection, lease, due=None)
    assert remove(engine, "report", NOON) and jobs_state(engine) == []


def test_a_job_that_was_removed_and_comes_back_gives_out_no_lease_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = take(engine, "one")
    late = NOON + 2 * MINUTE
    assert remove(engine, "report", late) and not remove(engine, "report", late)
    for name, value in old.environment.items():
        monkeypatch.setenv(name, value)

    def is_refused() -> None:
        with pytest.raises(LostLeaseError), holding(engine, old):
            pass
        with engine.begin() as connection, pytest.raises(LostLeaseError):
            refuse_if_lost(connection)

    is_refused()
    alive(engine, ["report"], late)
    assert jobs_state(engine) == []
    again = take(engine, "other", late)
    assert again.token > old.token and (state(engine).failures, state(engine).due) == (0, None)
    is_refused()


def test_a_heartbeat_is_of_the_jobs_that_somebody_looks_after(engine: Engine) -> None:
    for name in ("alerts", "report"):
        acquire(engine, name, "one", NOON, MINUTE)
    alive(engine, ["report"], NOON + 30 * SECOND)
    assert [job.heartbeat for job in jobs_state(engine)] == [NOON, NOON + 30 * SECOND]


def test_the_time_is_the_databases(engine: Engine) -> None:
    before, after = datetime.now(UTC), database_time(engine)
    assert after.tzinfo is UTC and abs(after - before) < MINUTE


def test_a_database_that_is_away_is_named(dead_url: str) -> None:
    engine = make_engine(dead_url)
    for ask in (
        lambda: prepare(engine, jobs),
        lambda: acquire(engine, "report", "one", NOON, MINUTE),
        lambda: beat(engine, Lease("report", "one", 1), NOON, MINUTE),
        lambda: jobs_state(engine),
    ):
        with pytest.raises(RecordsError, match="cannot be used"):
            ask()
