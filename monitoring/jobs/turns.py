"""One look at one job: take it, see whether it is due, run it, and keep what became of it.

    turns = Turns(run=commands.run, clock=database_time, holder=holder_name(), lease=timedelta(minutes=1))
    turn = turns.turn(engine, job)
    turn.ran, turn.pause                 # None: it was not due; how long until the next look

What is due is decided under the job's lease alone: of schedules that look at the same time one decides, and runs.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Engine

from monitoring.jobs import closing
from monitoring.jobs.job import Job, Ran, Task
from monitoring.jobs.keeping import kept
from records.tables import prepare
from records.watch import jobs, leases, windows
from records.watch.leases import Lease, holding

# However far the next run is: rows come late, and another schedule may have died.
_LONGEST_PAUSE: Final = timedelta(minutes=1)
# For a job that somebody else has: it may be free in a moment.
_LONGEST_WAIT: Final = timedelta(seconds=10)
_NONE: Final = timedelta(0)

Run = Callable[[Task, Callable[[], bool]], Ran]


@dataclass(frozen=True)
class Turn:
    """What came of a look.

    Attributes:
        ran: what became of the run; None: it was not due, or somebody else has it.
        pause: until the next look.
    """

    ran: Ran | None
    pause: timedelta


class Turns:
    """Looks at jobs.

    Args:
        run: runs a command, and stops it when the function that it gets says that the lease is lost.
        clock: tells the database's time.
        holder: names this schedule among all.
        lease: so long after a holder was last heard of, its job is another one's to run.
    """

    def __init__(self, run: Run, clock: Callable[[Engine], datetime], holder: str, lease: timedelta) -> None:
        self._run = run
        self._clock = clock
        self._holder = holder
        self._length = lease
        self._prepared: Engine | None = None

    def turn(self, engine: Engine, job: Job, *, insist: bool = False) -> Turn:
        """Look at a job, and run it if it is due.

        Args:
            insist: one that failed is tried again at once.

        Raises:
            LostLeaseError: another schedule has taken it over: what became of this run is not kept.
            RecordsError: the database does not answer.
        """
        self._prepare(engine)
        asked = time.monotonic()
        lease = leases.acquire(engine, job.name, self._holder, self._clock(engine), self._length)
        if lease is None:
            return Turn(None, min(self._length / 2, _LONGEST_WAIT))
        with kept(engine, lease, self._length, self._clock, asked) as held:
            now = self._clock(engine)
            task, due = self._next(engine, job, lease, now, insist)
            if task is None:
                with holding(engine, lease) as connection:
                    leases.release(connection, lease, due=due)
                return Turn(None, _pause(due - now))
            with holding(engine, lease) as connection:
                leases.start(connection, lease, now)
                if task.window is not None:
                    closing.begin(connection, task)
            ran = self._run(replace(task, environment=lease.environment), held)
            return self._end(engine, job, lease, task, ran)

    def alive(self, engine: Engine, names: list[str]) -> None:
        """Note that these jobs are looked after.

        Raises:
            RecordsError: the database does not answer.
        """
        self._prepare(engine)
        jobs.alive(engine, names, self._clock(engine))

    def _prepare(self, engine: Engine) -> None:
        # Once an engine: a database that went away and came back, perhaps as another one, has a new engine.
        if self._prepared is not engine:
            prepare(engine, jobs.jobs, windows.job_windows)
            self._prepared = engine

    def _next(
        self, engine: Engine, job: Job, lease: Lease, now: datetime, insist: bool
    ) -> tuple[Task | None, datetime]:
        if job.windows is not None:
            return closing.next_task(engine, job, lease, now, insist=insist)
        known = {state.name: state for state in jobs.jobs_state(engine)}
        state, other = known[job.name], known.get(job.after or "")
        if job.due(state, other, now, insist=insist):
            return Task(job.name, job.command, job.limit), now + job.every
        return None, job.not_before(state) or state.due or now

    def _end(self, engine: Engine, job: Job, lease: Lease, task: Task, ran: Ran) -> Turn:
        now = self._clock(engine)
        with holding(engine, lease) as connection:
            if ran.stopped:
                leases.release(connection, lease, due=now)
                return Turn(ran, _LONGEST_PAUSE)
            if task.window is not None:
                closing.keep(connection, task, ran, now)
            (state,) = jobs.states(connection, job.name)
            pause = job.every if ran.answered else job.pause(state.failing + 1)
            # Of windows more may be waiting: the next look, at once, tells.
            due = now if task.window is not None and ran.answered else now + pause
            leases.finish(connection, lease, now, outcome=ran.outcome, due=due)
        return Turn(ran, _pause(due - now))


def holder_name() -> str:
    """A name for this schedule that no other one has."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


def _pause(wanted: timedelta) -> timedelta:
    return min(max(wanted, _NONE), _LONGEST_PAUSE)
