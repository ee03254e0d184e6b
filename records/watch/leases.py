"""The right to run a job of the table `jobs`, for a while: of all schedules on all machines one has it.

    now = database_time(engine)
    lease = acquire(engine, "report resunet 24h", "node1:4711", now, timedelta(minutes=1))    # None: somebody has it
    beat(engine, lease, now, timedelta(minutes=1))                  # False: it is somebody else's by now
    with holding(engine, lease) as connection:                      # LostLeaseError
        finish(connection, lease, now, outcome="ok", due=now + timedelta(hours=1))

A holder that dies is followed by another when its lease has run out. Each lease has a number higher than the last
one's: what is written in `holding` is written by the newest one only, however late an older one wakes up (a fencing
token). All times are the database's, which all machines share.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Engine, and_, case, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from records.engines import explained
from records.texts import storable
from records.watch.jobs import OK, jobs, writing
from resunet.errors import RecordsError

# The lease under which a command was started, for what it writes itself.
LEASE_VARIABLE: Final = "RESUNET_JOB_LEASE"
_LONGEST_OUTCOME: Final = 500


class LostLeaseError(RecordsError):
    """The job is another one's by now: what this one found out is not kept."""


@dataclass(frozen=True)
class Lease:
    """The right to run a job, for a while."""

    name: str
    holder: str
    token: int

    @property
    def environment(self) -> dict[str, str]:
        """For a command that is run under it; `refuse_if_lost` reads it."""
        return {LEASE_VARIABLE: f"{self.token} {self.name}"}


def acquire(engine: Engine, name: str, holder: str, now: datetime, lease: timedelta) -> Lease | None:
    """Take a job that nobody holds, or whose holder has not been heard of for the length of its lease.

    Args:
        holder: names this schedule among all others; it asks for a job once at a time.
        now: of the database.

    Returns:
        None: somebody else has it.

    Raises:
        RecordsError: the database does not answer.
    """
    died = and_(
        jobs.c.holder.is_not(None),
        jobs.c.last_started.is_not(None),
        or_(jobs.c.last_finished.is_(None), jobs.c.last_finished < jobs.c.last_started),
    )
    take = (
        update(jobs)
        # A holder that was cut off in the middle of a turn, and is back, need not wait for itself.
        .where(
            jobs.c.name == name,
            or_(jobs.c.lease_until.is_(None), jobs.c.lease_until <= now, jobs.c.holder == storable(holder)),
        )
        .values(
            holder=storable(holder),
            token=jobs.c.token + 1,
            lease_until=now + lease,
            heartbeat=now,
            failing=jobs.c.failing + case((died, 1), else_=0),
            failures=jobs.c.failures + case((died, 1), else_=0),
            last_outcome=case(
                (died, jobs.c.holder + " ended, or was cut off from the database, while it ran this job"),
                else_=jobs.c.last_outcome,
            ),
        )
        .returning(jobs.c.token)
    )
    with explained(engine), writing(engine) as connection:
        _add(connection, name)
        token = connection.execute(take).scalar_one_or_none()
    return None if token is None else Lease(name, holder, token)


def beat(engine: Engine, lease: Lease, now: datetime, length: timedelta) -> bool:
    """Renew a lease, and tell whether it was still this one's.

    Raises:
        RecordsError: the database does not answer: the lease runs on, and out.
    """
    renew = update(jobs).where(*_mine(lease)).values(lease_until=now + length, heartbeat=now)
    with explained(engine), writing(engine) as connection:
        return connection.execute(renew).rowcount == 1


@contextmanager
def holding(engine: Engine, lease: Lease) -> Iterator[Connection]:
    """A transaction in which the lease is this one's, to its end: nobody takes the job over meanwhile.

    Raises:
        LostLeaseError: it is not.
        RecordsError: the database does not answer.
    """
    with explained(engine), writing(engine) as connection:
        # Locks the row: whoever takes the job over does so before, and is seen, or after.
        if connection.execute(update(jobs).where(*_mine(lease)).values(token=jobs.c.token)).rowcount != 1:
            raise LostLeaseError(
                f"{lease.name}: its lease ran out and another schedule has taken it over, so this run's outcome is "
                "not kept: see that this machine is not overloaded and its database within reach"
            )
        yield connection


def start(connection: Connection, lease: Lease, now: datetime) -> None:
    """Note that a run begins; within `holding`."""
    connection.execute(update(jobs).where(*_mine(lease)).values(last_started=now))


def close_until(connection: Connection, lease: Lease, end: datetime) -> None:
    """Note that all windows up to here are closed; within `holding`."""
    connection.execute(update(jobs).where(*_mine(lease)).values(window_end=end))


def finish(connection: Connection, lease: Lease, now: datetime, *, outcome: str, due: datetime | None) -> None:
    """Note how a run ended and give the lease back; within `holding`.

    Args:
        outcome: "ok", or a sentence.
        due: when it is to run next.
    """
    well = outcome == OK
    values: dict[str, Any] = {"last_finished": now, "last_outcome": storable(outcome[:_LONGEST_OUTCOME])}
    values |= {"last_success": now, "failing": 0} if well else {}
    values |= {} if well else {"failing": jobs.c.failing + 1, "failures": jobs.c.failures + 1}
    connection.execute(update(jobs).where(*_mine(lease)).values(due=due, holder=None, lease_until=None, **values))


def release(connection: Connection, lease: Lease, *, due: datetime | None) -> None:
    """Give the lease back without a run, or with one that was broken off on purpose; within `holding`."""
    connection.execute(update(jobs).where(*_mine(lease)).values(due=due, holder=None, lease_until=None))


def refuse_if_lost(connection: Connection) -> None:
    """Refuse to write for a lease that was lost; in the transaction of a command's result, before it is written.

    Reads the lease from the environment that `Lease.environment` was put into; a command that a person started has
    none, and may always write.

    Raises:
        LostLeaseError: another schedule has taken the job over.
    """
    token, _, name = os.environ.get(LEASE_VARIABLE, "").partition(" ")
    if not name:
        return
    query = select(jobs.c.token).where(jobs.c.name == name)
    # On PostgreSQL nobody takes it over before this transaction has ended; on SQLite nobody writes beside it.
    if connection.scalar(query.with_for_update(read=True)) != int(token):
        raise LostLeaseError(f"{name}: another schedule has taken it over, so this outcome is not kept")


def _mine(lease: Lease) -> tuple[Any, ...]:
    return jobs.c.name == lease.name, jobs.c.token == lease.token, jobs.c.holder.is_not(None)


def _add(connection: Connection, name: str) -> None:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = {"name": name, "token": 0, "failing": 0, "failures": 0}
    connection.execute(dialect.insert(jobs).values(**row).on_conflict_do_nothing())
