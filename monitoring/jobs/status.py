"""`python -m monitoring jobs`: the table of jobs for people, and what is wrong with them.

for line in troubles(jobs_state(engine), now, patience): …
console.print(table(jobs_state(engine), now, patience))
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from rich.table import Table

from records.watch.jobs import JobState


def trouble(state: JobState, now: datetime, patience: timedelta) -> str | None:
    """What is wrong with a job: it failed, or nobody runs it; None where nothing is."""
    if state.failed:
        times = f" ({state.failing} times in a row)" if state.failing > 1 else ""
        return f"{state.name} failed{times}: {state.last_outcome}"
    if not state.overdue(now, patience):
        return None
    if state.holder is not None:
        return f"{state.name} is overdue: {state.holder} began it and is gone"
    assert state.due is not None
    return f"{state.name} is overdue: it was due {ago(state.due, now)}, and no schedule has run it"


def troubles(states: Sequence[JobState], now: datetime, patience: timedelta) -> list[str]:
    """What is wrong with all of them."""
    return [told for state in states if (told := trouble(state, now, patience)) is not None]


def table(states: Sequence[JobState], now: datetime, patience: timedelta) -> Table:
    """A line a job."""
    shown = Table("job", "last run", "outcome", "next due", "holder", "heartbeat", "windows closed until")
    for state in states:
        bad = trouble(state, now, patience) is not None
        shown.add_row(
            state.name,
            ago(state.last_finished, now),
            "overdue" if bad and not state.failed else state.last_outcome or "",
            _due(state, now),
            state.holder or "",
            ago(state.heartbeat, now),
            "" if state.window_end is None else f"{state.window_end:%Y-%m-%d %H:%M} UTC",
            style="red" if bad else "",
        )
    return shown


def as_json(states: Sequence[JobState], now: datetime, patience: timedelta) -> list[dict[str, Any]]:
    """The same for programs; times are ISO 8601."""
    return [
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(state).items()}
        | {"running": state.running(now), "trouble": trouble(state, now, patience)}
        for state in states
    ]


def ago(moment: datetime | None, now: datetime) -> str:
    """A moment as people say it: "12 min ago", "in 3 h"."""
    if moment is None:
        return "never"
    seconds = (now - moment).total_seconds()
    size, unit = abs(seconds), "s"
    for least, step in ((60, "min"), (60, "h"), (48, "d")):
        if size < least:
            break
        size, unit = size / (24 if step == "d" else 60), step
    text = f"{size:.0f} {unit}"
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def _due(state: JobState, now: datetime) -> str:
    if state.running(now):
        return "runs now"
    if state.due is None:
        return ""
    return ago(state.due, now) if state.due > now else "now"
