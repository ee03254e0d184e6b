"""What a job is, and one run of it.

job = Job("upkeep node1", ("records", "upkeep"), every=timedelta(hours=6), limit=timedelta(minutes=10))
job.due(state, finished, now)       # of a job that runs at intervals; one with `windows` is in monitoring.jobs.closing
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from monitoring.jobs.windows import Rules
from monitoring.window import last_end
from records.watch.jobs import JobState
from records.watch.windows import ClosedWindow

_LONGEST_PAUSE: Final = timedelta(minutes=10)


@dataclass(frozen=True)
class WindowsOf:
    """What makes a job one of windows.

    Attributes:
        model: whose rows are counted.
        rules: when its windows are reported.
        text: a window's length as the command takes it.
        version_option: what tells the command which version to look at, where its windows' rows do not.
        by_rows: a window is about the version that answered most of it in production.
    """

    model: str
    rules: Rules
    text: str
    version_option: tuple[str, ...]
    by_rows: bool = False


@dataclass(frozen=True)
class Job:
    """One entry of the table of jobs.

    Attributes:
        name: its row in the table `jobs`.
        command: a module and its arguments, as after `python -m`.
        every: from the end of one run to the next; of a job of windows, from one window to the next.
        limit: a run that takes longer is stopped as hung.
        after: name of a job; each time that one ended, this one is due.
        once_in: of one that comes after another: only if a window of this length has ended since its last run.
        windows: it runs once a window, and not at intervals.
        retry: pause after a failure; doubled each time, up to ten minutes.
    """

    name: str
    command: tuple[str, ...]
    every: timedelta
    limit: timedelta
    after: str | None = None
    windows: WindowsOf | None = None
    retry: timedelta = timedelta(seconds=10)
    once_in: timedelta | None = None

    def pause(self, failing: int) -> timedelta:
        """How long to wait after so many failures in a row."""
        return min(self.retry * (1 << min(failing - 1, 16)), _LONGEST_PAUSE)

    def not_before(self, state: JobState) -> datetime | None:
        """When a job whose last run failed is tried again."""
        if not state.failing or state.last_finished is None:
            return None
        return state.last_finished + self.pause(state.failing)

    def due(self, state: JobState, other: JobState | None, now: datetime, *, insist: bool = False) -> bool:
        """Whether a job that runs at intervals is to be run.

        Args:
            state: its own.
            other: that of the job which it comes after.
            insist: one that failed is not given a pause.
        """
        retry = self.not_before(state)
        if retry is not None:
            return insist or now >= retry
        ended = None if other is None else other.last_finished
        newer = ended is not None and (state.last_started is None or ended > state.last_started)
        if newer and self.once_in is not None and state.last_started is not None:
            newer = last_end(now, self.once_in) > last_end(state.last_started, self.once_in)
        return newer or state.due is None or now >= state.due


@dataclass(frozen=True)
class Task:
    """One run.

    Attributes:
        title: what the log calls it.
        command: as of `Job`.
        limit: as of `Job`.
        window: that it reports.
        rows: that the window holds now.
        environment: what the process gets besides this one's.
    """

    title: str
    command: tuple[str, ...]
    limit: timedelta
    window: ClosedWindow | None = None
    rows: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ran:
    """What became of a run.

    Attributes:
        code: exit code.
        line: the last thing it said, or why it was stopped.
        stopped: this schedule ended it because it ends itself.
        lost: its lease ran out meanwhile.
    """

    code: int
    line: str
    stopped: bool = False
    lost: bool = False

    @property
    def answered(self) -> bool:
        """Whether it came to an answer: with too few rows a report says so, and exits 2 as with an error."""
        return self.code in (0, 3) or (self.code == 2 and self.line.startswith("too few rows"))

    @property
    def outcome(self) -> str:
        """For the table `jobs`: "ok", or what went wrong."""
        return "ok" if self.answered else f"exit code {self.code}: {self.line or 'it said nothing'}"
