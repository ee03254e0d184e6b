"""A watched model on a fake clock: windows of a day that are reported on, predictions, and looks at all of it."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import Engine, event, insert, select

from monitoring.alerts.check import Checked, check
from monitoring.alerts.policy import Policy, parse_policies
from monitoring.alerts.sources import Sources
from records.log_database import open_log
from records.schema import labels, predictions
from records.watch.outbox import alert_messages
from records.watch.reports import Verdict, WindowReport, add_report

DAY_0 = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)

Told = tuple[float, str, str]


def policies(*texts: str) -> tuple[Policy, ...]:
    """Policies, each written as what stands below its `- `."""
    return parse_policies("format: 1\npolicies:\n" + "".join(f"  - {text.strip()}\n" for text in texts))


def drift(more: str = "", alert: str = "{}") -> str:
    """A policy on the verdict: fires with the first window of drift, unless told otherwise."""
    return f"{{name: input-drift, when: {{verdict: drift}}, {more} actions: [{{alert: {alert}}}]}}"


def one_place(names: Any) -> tuple[tuple[str, int], ...]:
    """Each name has one address."""
    return tuple((name, 1) for name in names)


class Score(NamedTuple):
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """As `monitoring.performance.window.measured` tells it."""

    version: str
    images: int
    dice: Score
    slice: str | None = None
    route: str | None = None


@dataclass
class World:
    """What there is, and what time it is."""

    engine: Engine
    now: datetime = DAY_0
    sources: Sources = field(init=False)
    seen: int = 0

    def __post_init__(self) -> None:
        self.sources = Sources(self.engine, Path(), share_free=lambda _path: 0.5)

    def report(self, day: int, verdict: Verdict, **more: Any) -> WindowReport:
        """The report on a day, made five minutes after it."""
        start = DAY_0 + day * DAY
        moved = ("brightness", "saturation") if verdict == "drift" else ()
        made = WindowReport(
            "resunet", "7", "abc", start, start + DAY, ("canary", "production"), verdict, 0.5, 200, moved,
            f"{verdict} on day {day}", 0.9, 0.88, 0.92, None, start + DAY + timedelta(minutes=5),
        )  # fmt: skip
        made = replace(made, **more)
        add_report(self.engine, made)
        return made

    def predict(self, at: datetime, count: int = 1, **more: Any) -> None:
        """Predictions at a moment."""
        usual = {"model_name": "resunet", "model_version": "7", "model_digest": "abc", "route": "production"}
        rows = [
            {"answer_id": uuid4().hex, "request_id": "r", "event_time": at, "status": "ok"} | usual | more
            for _ in range(count)
        ]
        with self.engine.begin() as connection:
            connection.execute(insert(predictions), rows)

    def label(self, at: datetime, *dices: float, version: str = "7") -> None:
        """Answers at a moment, and what random audits found their Dice to be."""
        with self.engine.begin() as connection:
            for dice in dices:
                mark = uuid4().hex
                name = {"request_id": mark, "model_name": "resunet", "model_version": version}
                more = {"answer_id": mark, "event_time": at, "model_digest": "abc", "status": "ok"}
                connection.execute(insert(predictions).values(**name, **more, route="production"))
                scores = dict.fromkeys(("dice", "iou", "precision", "recall"), dice)
                connection.execute(insert(labels).values(**name, source="audit", label_time=at, **scores))

    def look(self, policies: tuple[Policy, ...], at: datetime | None = None, **more: Any) -> Checked:
        """One check."""
        self.now = self.now if at is None else at
        return check(self.sources, policies, one_place, self.now, **more)

    def told(self) -> list[Told]:
        """What was queued since the last call: on which day, what, by which policy."""
        table = alert_messages.c
        with self.engine.connect() as connection:
            rows = connection.execute(select(alert_messages).where(table.id > self.seen).order_by(table.id)).all()
        self.seen = rows[-1].id if rows else self.seen
        return [((one.made - DAY_0) / DAY, one.event, one.subject.split()[2].rstrip(":")) for one in rows]

    def week(self, policies: tuple[Policy, ...], verdicts: dict[int, Verdict]) -> list[Told]:
        """A report a day and a look after each; the days in between are without drift."""
        for day in range(min(verdicts), max(verdicts) + 1):
            self.report(day, verdicts.get(day, "no drift"))
            self.look(policies, DAY_0 + (day + 1) * DAY + HOUR)
        return self.told()


def world(url: str) -> World:
    """An empty log, which waits for no disk: weeks are thousands of commits."""
    engine = open_log(url)
    engine.dispose()
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA synchronous = OFF"))
    return World(engine)
