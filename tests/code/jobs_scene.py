"""Jobs on a fake clock against a real database: rows come in, windows are reported, and somebody notes which."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Engine, event, insert

from monitoring.jobs.job import Job, Ran, Task, WindowsOf
from monitoring.jobs.reach import Reach
from monitoring.jobs.turns import Turn, Turns
from monitoring.jobs.windows import Rules
from records.log_database import open_log
from records.schema import predictions
from records.watch.windows import rows_between
from resunet.errors import RecordsError

MONDAY = datetime.fromisoformat("2026-03-02T00:00:00+00:00")
REPORT = "report resunet"
LEASE = timedelta(minutes=5)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def report_job(length: timedelta = 6 * HOUR, **rules: timedelta) -> Job:
    """A job that reports one window after the other."""
    windows = WindowsOf("resunet", Rules.of(length, **rules), "6h", ("--stage", "Production"), by_rows=True)
    return Job(REPORT, ("monitoring", "report"), length, timedelta(minutes=10), windows=windows)


@dataclass
class Report:
    """A report that was made: on which window, of how many rows, at what time, by which command."""

    start: datetime
    end: datetime
    rows: int
    made: datetime
    command: tuple[str, ...] = field(repr=False)


class FakeWeek:
    """A database, a clock that stands still until it is moved, and what was reported by it.

    Args:
        url: of an empty database.
    """

    def __init__(self, url: str) -> None:
        self.engine = open_log(url)
        if self.engine.dialect.name == "sqlite":
            # A year of commits need not be brought to the disk.
            event.listen(self.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
            self.engine.dispose()
        self.now = MONDAY
        self.reports: list[Report] = []
        self.away = False
        # What happens while a report runs.
        self.meanwhile: Callable[[Task], None] = lambda _task: None
        # Whether a report ends with an error.
        self.fails: Callable[[Task], bool] = lambda _task: False
        self._reach = Reach(lambda: self.engine, clock=lambda: self.now.timestamp())
        self._rows = 0

    def clock(self, _engine: Engine) -> datetime:
        """The database's time; the first thing that every turn asks for."""
        if self.away:
            raise RecordsError("the database is away")
        return self.now

    def turns(self, holder: str = "one") -> Turns:
        """A schedule's looks at its jobs."""
        return Turns(self.run, self.clock, holder, LEASE)

    def run(self, task: Task, held: Callable[[], bool]) -> Ran:
        """A report that takes a minute, and reads the rows of its window at its end."""
        window = task.window
        assert window is not None
        self.now += timedelta(minutes=1)
        self.meanwhile(task)
        if self.fails(task):
            return Ran(2, "error: MLflow did not do it")
        if self.away:
            return Ran(2, "error: the database is away")
        if not held():
            return Ran(-15, "its lease was lost", lost=True)
        rows = rows_between(self.engine, "resunet", window.window_start, window.window_end)
        self.reports.append(Report(window.window_start, window.window_end, rows, self.now, task.command))
        return Ran(0, "no drift")

    def arrive(self, moment: datetime, count: int, version: str = "3") -> None:
        """Rows of one moment reach the database now."""
        rows = [
            {
                "answer_id": f"{self._rows + number}",
                "request_id": f"{self._rows + number}",
                "model_name": "resunet",
                "model_version": version,
                "route": "production",
                "event_time": moment,
                "model_digest": "",
                "status": "ok",
            }
            for number in range(count)
        ]
        self._rows += count
        with self.engine.begin() as connection:
            connection.execute(insert(predictions), rows)

    def go(
        self,
        until: datetime,
        job: Job,
        turns: Turns,
        step: timedelta = 2 * HOUR,
        arrive: Callable[[datetime], None] | None = None,
    ) -> list[Turn]:
        """Let a schedule look at a job every now and then, as one that runs does; rows come in before each look."""
        ran = []
        while self.now < until:
            began = self.now
            if arrive is not None:
                arrive(began)
            while True:
                turn = None
                with self._reach.engine() as engine:
                    turn = None if engine is None else turns.turn(engine, job)
                if turn is None or turn.ran is None:
                    break
                ran.append(turn)
            self.now = max(began + step, self.now)
        return ran

    def known(self, job: str = REPORT) -> list[Report]:
        """The reports, each window's last one: as a table with a row a window keeps them."""
        return list({(report.start, report.end): report for report in self.reports}.values())


@contextmanager
def fake_week(url: str) -> Iterator[FakeWeek]:
    """A week, whose database is closed at its end."""
    week = FakeWeek(url)
    try:
        yield week
    finally:
        week.engine.dispose()
