"""A job of windows against the database: which window it reports next, and what is kept of its report.

    task, due = next_task(engine, job, lease, now)      # None: there is nothing to report
    begin(connection, task)
    keep(connection, task, ran, now)

All of it is written under the job's lease: a schedule that lost it keeps nothing.
"""

import logging
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from monitoring.jobs import windows as when
from monitoring.jobs.job import Job, Ran, Task, WindowsOf
from monitoring.window import Window
from records.watch import windows as table
from records.watch.jobs import states
from records.watch.leases import Lease, close_until, holding
from records.watch.windows import ClosedWindow
from records.window import versions_in_window

log = logging.getLogger("monitoring.schedule")

_KEPT = timedelta(days=90)


def next_task(
    engine: Engine, job: Job, lease: Lease, now: datetime, *, insist: bool = False
) -> tuple[Task | None, datetime]:
    """Close what is over, and choose the window to report.

    Args:
        insist: after a failure there is no pause.

    Returns:
        the run, None where there is nothing to report; and when the next one is due.

    Raises:
        LostLeaseError: another schedule has the job.
        RecordsError: the database does not answer.
    """
    assert job.windows is not None
    rules = job.windows.rules
    with holding(engine, lease) as connection:
        known, retry = _close(connection, job, job.windows, lease, now)
    due = when.next_moment(known, now, rules)
    if retry is not None and now < retry and not insist:
        return None, max(due, retry)
    chosen = next(iter(when.waiting(known, now, rules)), None)
    if chosen is None:
        chosen = _come_late(engine, lease, job.windows, known, now)
    if chosen is None:
        return None, due
    return _task(engine, job, job.windows, chosen), due


def begin(connection: Connection, task: Task) -> None:
    """Count the attempt; within `holding`."""
    assert task.window is not None
    table.note(connection, task.window, attempts=task.window.attempts + 1)


def keep(connection: Connection, task: Task, ran: Ran, now: datetime) -> None:
    """Note what became of a window; within `holding`."""
    window = task.window
    assert window is not None
    told = ran.line[:500]
    if not ran.answered:
        table.note(connection, window, outcome=told)
        return
    again = window.reported is not None
    table.note(
        connection,
        window,
        reported=now,
        rows=task.rows,
        seen=task.rows,
        looked=now,
        attempts=0,
        revisions=window.revisions + again,
        outcome=told,
    )


def _close(
    connection: Connection, job: Job, windows: WindowsOf, lease: Lease, now: datetime
) -> tuple[list[ClosedWindow], datetime | None]:
    rules, (state,) = windows.rules, states(connection, job.name)
    closed = when.newly_closed(state.window_end, now, rules)
    table.close_windows(connection, job.name, [(window.start, window.end) for window in closed.windows])
    if closed.until != state.window_end:
        close_until(connection, lease, closed.until)
        table.drop_before(connection, job.name, now - rules.back - _KEPT)
    if closed.skipped is not None:
        log.warning(
            "%s: the windows from %s were missed and are too old to be made up (--back)",
            job.name,
            closed.skipped,
        )
    known = table.windows_since(connection, job.name, now - rules.back - rules.every)
    for one in when.given_up(known, now, rules):
        table.note(connection, one, skipped=True)
        log.error("%s: the window %s is given up: %s", job.name, _window(one), one.outcome or "it was never begun")
    return known, job.not_before(state)


def _come_late(
    engine: Engine, lease: Lease, windows: WindowsOf, known: list[ClosedWindow], now: datetime
) -> ClosedWindow | None:
    """Look for rows that came late, window by window, and return the first window that is to be reported again."""
    for one in when.to_count(known, now, windows.rules):
        count = table.rows_between(engine, windows.model, one.window_start, one.window_end)
        if when.revised(one, count, windows.rules):
            return one
        with holding(engine, lease) as connection:
            table.note(connection, one, seen=count, looked=now)
    return None


def _task(engine: Engine, job: Job, windows: WindowsOf, chosen: ClosedWindow) -> Task:
    start, end = chosen.window_start, chosen.window_end
    version = windows.version_option
    if windows.by_rows:
        # Of a window that is made up, not the version that is in production by now.
        answered = versions_in_window(engine, start, end, windows.model, route="production")
        version = ("--version", answered[0].model_version) if answered else version
    again = ", again with the rows that came late" if chosen.reported is not None else ""
    return Task(
        title=f"{job.name}, {_window(chosen)}{again}",
        command=(*job.command, "--until", end.isoformat(), "--window", windows.text, *version),
        limit=job.limit,
        window=chosen,
        rows=table.rows_between(engine, windows.model, start, end),
    )


def _window(one: ClosedWindow) -> Window:
    return Window(one.window_start, one.window_end)
