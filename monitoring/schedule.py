"""All jobs of monitoring in one process, on a clock: whatever becomes of one of them, the others go on.

    with single(home, "resunet 24h") as lock:
        commands = Commands(lock)
        turns = Turns(commands.run, database_time, holder_name(), lease)
        run_schedule(jobs, turns, commands, Reach(open_engine), grace=timedelta(seconds=20))

Each job has a thread that looks at it, and each run is a process of its own (`monitoring.jobs.commands`). What is due,
and who runs it, is in the database (`monitoring.jobs.turns`): several schedules on several machines share the jobs,
and each run is made by one of them.
"""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import quote

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy import Engine

from monitoring.jobs.commands import Commands
from monitoring.jobs.job import Job, Ran
from monitoring.jobs.reach import Reach
from monitoring.jobs.turns import Turns
from records.home_lock import alone
from records.signals import asked_to_end
from records.watch.leases import LostLeaseError

log = logging.getLogger("monitoring.schedule")

_POLL_S: Final = 0.1
_LOOK_S: Final = 0.5
_HEARTBEAT_S: Final = 15
_AFTER_AN_ERROR_S: Final = 60.0


@contextlib.contextmanager
def single(home: Path, name: str) -> Iterator[int]:
    """Hold the lock of a schedule in a home.

    Yields:
        its file descriptor: a process that inherits it holds the lock too.

    Raises:
        BusyError: another process holds it.
        SettingsError: the folder cannot be written.
    """
    busy = (
        f"a schedule of {name!r} runs already in RESUNET_HOME {home}, or the last command of one that was killed: stop "
        "that one first. (One that stands by for it has a RESUNET_HOME of its own, and the same database)"
    )
    with alone(home / f"schedule-{quote(name, safe='')}.lock", busy) as lock:
        yield lock


class _Looks:
    """Looks at each job when it is time to."""

    def __init__(self, jobs: Sequence[Job], turns: Turns, reach: Reach) -> None:
        self._jobs = jobs
        self._turns = turns
        self._reach = reach
        self._again = dict.fromkeys((job.name for job in jobs), 0.0)

    def look(self, job: Job, insist: bool = False) -> Ran | None:
        """Look at a job now, if it is time to, and return what became of its run; None where there was none."""
        if time.monotonic() < self._again[job.name]:
            return None
        try:
            with self._reach.engine() as engine:
                if engine is None:
                    return None
                turn = self._turns.turn(engine, job, insist=insist)
                self._again[job.name] = time.monotonic() + turn.pause.total_seconds()
                if turn.ran is not None:
                    self._again |= {other.name: 0.0 for other in self._jobs if other.after == job.name}
                return turn.ran
        except LostLeaseError as error:
            log.error("%s", error)
        except Exception:
            log.exception("%s: this was not foreseen", job.name)
            self._again[job.name] = time.monotonic() + _AFTER_AN_ERROR_S
        return None

    def alive(self) -> None:
        """Say in the database that there is a schedule."""
        try:
            with self._reach.engine() as engine:
                if engine is not None:
                    self._turns.alive(engine, list(self._again))
        except Exception:
            log.exception("the heartbeat: this was not foreseen")


def run_schedule(
    jobs: Sequence[Job],
    turns: Turns,
    commands: Commands,
    reach: Reach,
    *,
    grace: timedelta,
    once: bool = False,
    only_errors: bool = False,
) -> int:
    """Run the jobs when they are due, until SIGTERM or SIGINT; to be called in the main thread.

    Args:
        grace: how long a running command may go on after the signal.
        once: run what is due now, a job after the other, and return.
        only_errors: with `once`, return 0 where all commands came to an answer, whichever it was.

    Returns:
        0 when it was stopped; with `once` 2 when a command failed, else 3 when a report found drift, else 2 when one
        had too few rows, else 0.

    Raises:
        RecordsError: with `once`, the database is away.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    log.setLevel(logging.INFO)
    # A look that takes as long as a report is no news.
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    with asked_to_end() as asked:
        if once:
            ran = _run_once(jobs, turns, commands, asked, grace, reach)
            return 128 + signal.SIGTERM if asked else exit_code(ran, only_errors)
        _run_on(jobs, _Looks(jobs, turns, reach), commands, asked, grace)
        log.info("stopped")
        return 0


def _run_on(jobs: Sequence[Job], looks: _Looks, commands: Commands, asked: Sequence[str], grace: timedelta) -> None:
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(len(jobs) + 1)},
        job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None},
        timezone=UTC,
    )
    for job in jobs:
        look = IntervalTrigger(seconds=_LOOK_S)
        scheduler.add_job(looks.look, look, [job], id=job.name, next_run_time=datetime.now(UTC))
    scheduler.add_job(looks.alive, IntervalTrigger(seconds=_HEARTBEAT_S))
    try:
        scheduler.start()
        log.info("looks after %s; stop with SIGTERM or Ctrl-C", ", ".join(job.name for job in jobs))
        while not asked:
            time.sleep(_POLL_S)
    finally:
        scheduler.pause()
        commands.stop(grace.total_seconds())
        # What became of the last runs is still to be written down.
        scheduler.shutdown(wait=True)


def _run_once(
    jobs: Sequence[Job], turns: Turns, commands: Commands, asked: Sequence[str], grace: timedelta, reach: Reach
) -> list[Ran]:
    ran: list[Ran] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            engine = reach.open()
            for job in jobs:
                ran.extend(_turns_at_once(job, turns, engine))
        except BaseException as error:
            failed.append(error)

    worker = threading.Thread(target=work, name="once", daemon=True)
    worker.start()
    while worker.is_alive() and not asked:
        worker.join(_POLL_S)
    commands.stop(grace.total_seconds() if asked else 0.0)
    worker.join(grace.total_seconds())
    if failed:
        raise failed[0]
    if not ran and not asked:
        log.info("nothing is due, or another schedule is at it: see `python -m monitoring jobs`")
    return ran


def exit_code(ran: Sequence[Ran], only_errors: bool) -> int:
    """Of several commands; as of `run_schedule`."""
    if not all(one.answered for one in ran):
        return 2
    codes = set() if only_errors else {one.code for one in ran}
    return 3 if 3 in codes else 2 if 2 in codes else 0


def _turns_at_once(job: Job, turns: Turns, engine: Engine) -> Iterator[Ran]:
    """Run a job, or the report of each window that is due, and yield what became of each, up to the first failure."""
    insist = True
    while (ran := turns.turn(engine, job, insist=insist).ran) is not None:
        # That an alert fires is told to people by itself, again and again: here it is no news.
        yield ran if job.windows is not None or not ran.answered else replace(ran, code=0)
        if job.windows is None or not ran.answered:
            return
        insist = False
