"""`python -m monitoring jobs`: the table of jobs for people, and what is wrong with them.

for line in troubles(jobs_state(engine), now, patience): …
console.print(table(jobs_state(engine), now, patience))
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from rich.table import Table

from records.watch.job_words import ago, trouble
from records.watch.jobs import JobState


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


def _due(state: JobState, now: datetime) -> str:
    if state.running(now):
        return "runs now"
    if state.due is None:
        return ""
    return ago(state.due, now) if state.due > now else "now"
