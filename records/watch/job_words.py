"""Jobs as people say it: what is wrong with one, and how long ago something was.

trouble(state, now, timedelta(minutes=15))      # report resunet 24h failed (2 times in a row): …
ago(state.heartbeat, now)                       # 12 min ago
"""

from datetime import datetime, timedelta
from typing import Final

from records.watch.jobs import JobState

# A job is overdue when it was due so long ago.
PATIENCE: Final = timedelta(minutes=15)


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
