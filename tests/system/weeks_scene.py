"""Weeks on a fake clock with every part at work: gateway's log, schedule, reports, trend, labels, alerts, mail.

    with Weeks(postgres_url, scene, version, mail) as weeks:
        weeks.go(weeks.day(14))
        weeks.told                 # [(1.5, "ALERT input-drift: resunet version 1"), …]

A day's rows are logged at its end; every six hours somebody looks at what is due, and at what is to be told.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

import numpy as np
from drift_scene import Scene, draw_descriptors
from inboxes import MailServer
from jobs_scene import DAY, HOUR, MONDAY, FakeWeek, report_job
from sqlalchemy import Engine

from monitoring.alerts.check import check
from monitoring.alerts.policy import Policy
from monitoring.alerts.recipients import Recipients
from monitoring.alerts.reports import Reports
from monitoring.alerts.sources import Sources
from monitoring.alerts.telling import deliver
from monitoring.answer import Question
from monitoring.jobs.job import Ran, Task
from monitoring.performance.window import measured
from monitoring.report import run_report
from monitoring.tracking import WatchedVersion
from monitoring.trend import TrendQuestion, run_trend
from monitoring.window import Window
from records.engines import make_engine
from records.inference import InferenceLog, PredictionRow
from records.labels import Label, Source
from records.log_database import open_log
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS
from resunet.errors import RecordsError, ResunetError
from resunet.masks import to_rle

ROWS = 100
# Days whose masks are kept: their labels are masks, those of others scores.
MASKED = (17, 18)
SIDE = 16
STEP = 6 * HOUR
EXPERIMENT = "weeks"
ANSWERED = np.kron(np.array([[255, 0], [0, 0]], np.uint8), np.ones((SIDE // 2, SIDE // 2), np.uint8))
Moved = Callable[[int], dict[str, float] | None]


class Database:
    """A database of PostgreSQL that can be taken away."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._name = make_engine(url).url.database
        self._server = make_engine(url.replace(f"/{self._name}", "/postgres"))

    def cut(self) -> None:
        """Nobody reaches it, nor goes on with what was begun."""
        self._tell(
            f"ALTER DATABASE {self._name} WITH ALLOW_CONNECTIONS false",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._name}'",
        )

    def mend(self) -> None:
        """It is there again."""
        self._tell(f"ALTER DATABASE {self._name} WITH ALLOW_CONNECTIONS true")

    def _tell(self, *statements: str) -> None:
        with self._server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def close(self) -> None:
        self._server.dispose()


class Weeks(FakeWeek):
    """One version in production, whose images come as `moved` says.

    Args:
        moved: by how many standard deviations which descriptors are off on a day; None: nobody asks on that day.
    """

    def __init__(
        self,
        url: str,
        scene: Scene,
        version: WatchedVersion,
        mail: MailServer,
        policies: tuple[Policy, ...],
        moved: Moved,
    ) -> None:
        super().__init__(url)
        self.database = Database(url)
        self.mail = mail
        self.moved = moved
        self.told: list[tuple[float, str]] = []
        self.refused = 0
        # What happens at a moment, before it is looked at what is due.
        self.plan: dict[datetime, Callable[[], None]] = {}
        self.dies: datetime | None = None
        self._scene, self._version, self._policies = scene, version, policies
        self._to = Recipients({"RESUNET_NOTIFY": mail.url()}, 30.0)
        self._log = InferenceLog.open(
            url, scene.home / "gateway", drain_interval_s=86_400.0, upkeep_interval_s=86_400.0, clock=lambda: self.now
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.mend()
        self._log.close()
        self.engine.dispose()
        self.database.close()

    def day(self, number: float) -> datetime:
        return MONDAY + number * DAY

    def live(self, until: datetime) -> None:
        """Let time pass."""
        self.go(until, report_job(DAY, back=7 * DAY), self.turns(), STEP, self._pass)

    def label(self, requests: list[str], dice: float | None, source: Source = "audit") -> None:
        """Label answers: with a score, or with the mask that was answered."""
        for request in requests:
            truth = ANSWERED if dice is None else None
            self._log.label(Label(request, "resunet", source, truth, dice))

    def run(self, task: Task, held: Callable[[], bool]) -> Ran:
        """Report a window, and the trend up to it, as the commands do."""
        assert task.window is not None
        window = Window(task.window.window_start, task.window.window_end)
        question = Question(version=self._version, window=window)
        trend = TrendQuestion(self._version, window.end, DAY)
        try:
            answer = run_report(
                question, client=self._scene.client, open_engine=self._open, experiment=EXPERIMENT, made=self.now
            )
            run_trend(trend, client=self._scene.client, engine=self.engine, experiment=EXPERIMENT, made=self.now)
        except ResunetError as error:
            return Ran(2, f"error: {error}")
        return Ran({"no drift": 0, "drift": 3}.get(answer.drift.verdict, 2), answer.summary)

    def _open(self) -> Engine:
        engine = open_log(self.database.url)
        if self.dies is not None and self.now >= self.dies:
            # After the report has opened it.
            self.dies = None
            self.database.cut()
        return engine

    def _pass(self, now: datetime) -> None:
        """Rows of the day that ended are logged, and brought to the database; then it is told what there is to tell."""
        if now in self.plan:
            self.plan[now]()
        if now.hour == 0 and now > MONDAY:
            self._answer((now - MONDAY).days - 1)
        try:
            self._log.drain_now()
            self._look()
        except RecordsError:
            self.refused += 1

    def _answer(self, day: int) -> None:
        """Log what clients got on a day."""
        moved = self.moved(day)
        if moved is None:
            return
        frame = draw_descriptors(np.random.default_rng([7, day]), ROWS, moved)
        start = self.day(day)
        rows = enumerate(frame.to_dict("records"))
        self._log.append(_row(self._version, start, day, place, values) for place, values in rows)

    def _look(self) -> None:
        sources = Sources(self.engine, self._scene.home, measured=measured, share_free=lambda _path: 0.5)
        check(sources, self._policies, self._to.places, self.now)
        told = deliver(self.engine, self._to, Reports(None), lambda: self.now)
        assert told.problems == ()
        for _ in range(told.delivered):
            self.told.append(((self.now - MONDAY) / DAY, self.mail.get().subject.removeprefix("[resunet] ")))


def request(day: int, place: int) -> str:
    """The id of an answer."""
    return f"day {day} image {place}"


def _row(version: WatchedVersion, start: datetime, day: int, place: int, values: dict[Any, float]) -> PredictionRow:
    return PredictionRow(
        request_id=request(day, place),
        event_time=start + (place + 0.5) * timedelta(days=1) / ROWS,
        model_name="resunet",
        model_version=version.version,
        model_digest="",
        route="production",
        status="ok",
        image_digest=f"sha256:{request(day, place)}",
        width=values["width"],
        height=values["height"],
        descriptors={name: values[name] for name in IMAGE_DESCRIPTORS},
        prediction_descriptors={name: values[name] for name in PREDICTION_DESCRIPTORS},
        mask_rle=to_rle(ANSWERED) if day in MASKED else None,
    )
