"""A lease that is renewed while a job runs, and what is known of it when it is not."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from waiting import until

from monitoring.jobs.keeping import kept
from records.log_database import open_log
from records.tables import prepare
from records.watch.jobs import database_time, jobs, jobs_state
from records.watch.leases import Lease, acquire
from resunet.errors import RecordsError

LENGTH = timedelta(seconds=1.2)


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    opened = open_log(url)
    prepare(opened, jobs)
    yield opened
    opened.dispose()


def take(engine: Engine, holder: str, now: datetime) -> Lease:
    lease = acquire(engine, "report", holder, now, LENGTH)
    assert lease is not None
    return lease


def test_a_lease_is_renewed_as_long_as_the_job_runs(engine: Engine) -> None:
    lease = take(engine, "one", database_time(engine))
    first = jobs_state(engine)[0].lease_until
    assert first is not None
    with kept(engine, lease, LENGTH, database_time, time.monotonic()) as held:
        until(lambda: database_time(engine) > first + LENGTH)
        until(held)
        until(lambda: jobs_state(engine)[0].running(database_time(engine)))


def test_a_lease_that_another_one_has_is_lost(engine: Engine) -> None:
    lease = take(engine, "one", database_time(engine))
    take(engine, "other", datetime.now(UTC) + timedelta(hours=1))
    with kept(engine, lease, LENGTH, database_time, time.monotonic()) as held:
        until(lambda: not held(), seconds=LENGTH.total_seconds() * 30)


def test_a_lease_counts_as_lost_before_its_end_when_the_database_is_away(engine: Engine) -> None:
    def away(_engine: Engine) -> datetime:
        raise RecordsError("the database is away")

    lease, length = take(engine, "one", database_time(engine)), timedelta(minutes=1)
    now = time.monotonic()
    # A minute's lease is trusted for that long less what it takes to end a command.
    with kept(engine, lease, length, away, now - 50) as held:
        assert held()
    with kept(engine, lease, length, away, now - 55) as held:
        assert not held()
