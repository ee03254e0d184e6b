"""Table `jobs`: who runs which job of monitoring, since when, and how it went.

    for state in jobs_state(engine):            # `python -m monitoring jobs`, Prometheus, alerts
        state.overdue(database_time(engine), timedelta(minutes=15))

A job is run under a lease (`records.watch.leases`). The table is made with the first job. A row is never deleted: of a
job that was removed the number of its last lease stays, so that none is ever given out again.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    inspect,
    or_,
    select,
    update,
)

from records.engines import explained
from records.schema import UtcTime

OK: Final = "ok"

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text),
    # Of the last lease; each is given out once.
    Column("token", Integer, nullable=False),
    Column("lease_until", UtcTime),
    Column("due", UtcTime),
    Column("last_started", UtcTime),
    Column("last_finished", UtcTime),
    Column("last_success", UtcTime),
    Column("last_outcome", Text),
    # When a schedule last looked after it, running or not.
    Column("heartbeat", UtcTime),
    # All windows that end here or before are closed.
    Column("window_end", UtcTime),
    Column("failing", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
)


# Who takes a job says so in the same transaction: only one that was removed has no heartbeat.
_IS_THERE = jobs.c.heartbeat.is_not(None)
_COUNTED: Final = ("failing", "failures")
# What is known of a job that was removed.
_NOTHING: Final = {
    column.name: 0 if column.name in _COUNTED else None for column in jobs.c if column.name not in ("name", "token")
}


@dataclass(frozen=True)
class JobState:
    """A row of `jobs`.

    Attributes:
        holder: the schedule that runs it now; None where none does.
        due: when it is to run next.
        last_success: when it last ended well.
        last_outcome: "ok", or a sentence that says what went wrong; None before its first end.
        heartbeat: when a schedule last looked after it.
        window_end: end of the last window that was closed.
        failing: failures since it last ended well.
        failures: all of them.
    """

    name: str
    holder: str | None
    token: int
    lease_until: datetime | None
    due: datetime | None
    last_started: datetime | None
    last_finished: datetime | None
    last_success: datetime | None
    last_outcome: str | None
    heartbeat: datetime | None
    window_end: datetime | None
    failing: int
    failures: int

    @property
    def failed(self) -> bool:
        """Whether its last run did not end well."""
        return self.last_outcome not in (None, OK)

    def running(self, now: datetime) -> bool:
        """Whether a schedule that is alive holds it."""
        return self.holder is not None and self.lease_until is not None and now < self.lease_until

    def overdue(self, now: datetime, patience: timedelta) -> bool:
        """Whether nobody has run it although it was due so long ago, or its holder died."""
        if self.running(now):
            return False
        return self.holder is not None or (self.due is not None and now - self.due > patience)


def database_time(engine: Engine) -> datetime:
    """What the database's clock shows; SQLite has none but this machine's.

    Raises:
        RecordsError: it does not answer.
    """
    if engine.dialect.name != "postgresql":
        return datetime.now(UTC)
    with explained(engine), engine.connect() as connection:
        now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return now.astimezone(UTC)


def alive(engine: Engine, names: Iterable[str], now: datetime) -> None:
    """Note that a schedule looks after these jobs.

    Raises:
        RecordsError: the database does not answer.
    """
    with explained(engine), writing(engine) as connection:
        connection.execute(update(jobs).where(jobs.c.name.in_(list(names)), _IS_THERE).values(heartbeat=now))


def remove(engine: Engine, name: str, now: datetime) -> bool:
    """Forget a job that nobody runs, and tell whether there was one.

    Raises:
        RecordsError: the database does not answer.
    """
    with explained(engine):
        if not inspect(engine).has_table(jobs.name):
            return False
        with writing(engine) as connection:
            idle = or_(jobs.c.holder.is_(None), jobs.c.lease_until <= now)
            gone = update(jobs).where(jobs.c.name == name, _IS_THERE, idle)
            return connection.execute(gone.values(token=jobs.c.token + 1, **_NOTHING)).rowcount == 1


def jobs_state(engine: Engine) -> list[JobState]:
    """All jobs by name; none where no schedule has run yet.

    Raises:
        RecordsError: the database does not answer.
    """
    with explained(engine):
        if not inspect(engine).has_table(jobs.name):
            return []
        with engine.connect() as connection:
            return states(connection)


def states(connection: Connection, name: str | None = None) -> list[JobState]:
    """The jobs, or one of them, in a transaction under way."""
    columns = [jobs.c[field.name] for field in fields(JobState)]
    query = select(*columns).where(_IS_THERE).order_by(jobs.c.name)
    return [JobState(*row) for row in connection.execute(query if name is None else query.where(jobs.c.name == name))]


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    # SQLite: the write lock first, else a transaction that began by reading may find another writer before it.
    with engine.connect().execution_options(records_begin="BEGIN IMMEDIATE") as connection, connection.begin():
        yield connection
