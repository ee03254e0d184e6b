"""All that is known of a model on one screen, for whoever shows it: `resunet status`, and the gateway at `/status`.

    engine = log_to_read(settings)                                  # None: there is no log
    seen = read_overview(engine, settings.home, "resunet", datetime.now(UTC), timedelta(days=7), stages, rollout)
    seen.traffic.value or seen.traffic.missing                      # a part, or why it is not there, in words
    seen.concerns                                                   # what somebody should look at
    as_json(seen)

Nothing is written, no part takes another one down, and what is read does not grow with the rows of the log.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Engine, inspect

from records.clocks import CLOCKS_DIFFER
from records.engines import describe, explained, make_engine
from records.log_database import stored_format
from records.schema import SCHEMA_VERSION
from records.settings import RecordsSettings
from records.watch.alerts import Alert, alerts, open_alerts
from records.watch.disk import Disk, read_disk
from records.watch.job_words import PATIENCE, trouble
from records.watch.jobs import JobState, jobs_state
from records.watch.measured import Dice, read_dice
from records.watch.reports import Kind, WindowReport, latest_reports
from records.watch.traffic import Span, Traffic, read_traffic
from records.watch.wording import moment, requests_failed
from resunet.errors import ResunetError

NO_LOG: Final = "no predictions are logged here: set RESUNET_INFERENCE_LOG to the database that the server logs to"
NO_VERSION: Final = "no version"
# A week of hourly windows; and what is looked at for them, where others end at the same hours.
_MOST_REPORTS: Final = 168
_MOST_READ: Final = 1000
# Of an alert's row: how it is kept, and nothing to be told.
_UNTOLD: Final = frozenset({"course", "revision"})
_T = TypeVar("_T")


@dataclass(frozen=True)
class Told(Generic[_T]):
    """A part of the overview.

    Attributes:
        value: None where there is none.
        missing: why, in words.
        failed: it could not be read; else there is nothing yet.
    """

    value: _T | None = None
    missing: str = ""
    failed: bool = False


@dataclass(frozen=True)
class Stage:
    """A version that stands somewhere.

    Attributes:
        since: when it was moved there; None: not known here.
        dice: on its test images; None: not known here.
    """

    version: str
    since: datetime | None = None
    dice: float | None = None


@dataclass(frozen=True)
class Stages:
    """What a registry says stands where; None: nothing does."""

    production: Stage | None
    staging: Stage | None


@dataclass(frozen=True)
class Rollout:
    """The last one: where it is, of which version, and the shares of callers and requests that it has."""

    phase: str
    version: str
    canary: float
    shadow: float


@dataclass(frozen=True)
class Drift:
    """Reports on windows: the last one that saw an image, and those like it that ended in the span, the oldest first.

    Like it are windows of the same length and routes: verdicts on others are no course.
    """

    last: WindowReport
    course: tuple[WindowReport, ...]


@dataclass(frozen=True)
class Job:
    """A job of the schedule, and what is wrong with it; empty where nothing is."""

    state: JobState
    running: bool
    trouble: str

    @property
    def called(self) -> str:
        """Its name, without that of a machine: a page is for more people than those who run it."""
        return "upkeep" if self.state.name.startswith("upkeep ") else self.state.name


@dataclass(frozen=True)
class Overview:
    """A model at one moment; `span` is what is looked back on."""

    model: str
    span: Span
    production: Told[Stage]
    staging: Told[Stage]
    rollout: Told[Rollout]
    traffic: Told[Traffic]
    drift: Told[Drift]
    trend: Told[WindowReport]
    dice: Told[Dice]
    alerts: Told[tuple[Alert, ...]]
    jobs: Told[tuple[Job, ...]]
    disk: Told[Disk]

    @property
    def parts(self) -> dict[str, Told[Any]]:
        """All of them by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: part for name, part in found.items() if isinstance(part, Told)}

    @property
    def failures(self) -> tuple[str, ...]:
        """What could not be read, a sentence for each reason."""
        reasons: dict[str, list[str]] = {}
        for name, part in self.parts.items():
            if part.failed:
                reasons.setdefault(part.missing, []).append(name)
        return tuple(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())

    @property
    def concerns(self) -> tuple[str, ...]:
        """What somebody should look at."""
        found = []
        if self.production.value is None and not self.production.failed:
            found.append("nothing is in Production")
        if self.traffic.value is not None and self.traffic.value.failures_lately:
            since = f"since {moment(self.span.lately)} UTC"
            found.append(f"{requests_failed(self.traffic.value.failures_lately)} {since}")
        found += [f"alert {one.id} fires: {one.policy}" for one in self.alerts.value or () if one.status == "firing"]
        if self.drift.value is not None and self.drift.value.last.verdict == "drift":
            found.append(f"the last window shows drift: version {self.drift.value.last.model_version}")
        if self.trend.value is not None and self.trend.value.verdict == "drift":
            found.append(f"windows follow a trend: version {self.trend.value.model_version}")
        for job in self.jobs.value or ():
            if job.trouble:
                found.append(f"job {job.called} {'failed' if job.state.failed else 'is overdue'}")
        return tuple(found)


def log_to_read(settings: RecordsSettings) -> Engine | None:
    """The database that predictions are logged to, without making anything; None where there is none.

    Raises:
        RecordsError: its URL makes no sense.
    """
    engine = make_engine(settings.inference_log or settings.database_url)
    if engine.url.get_backend_name() == "sqlite" and not Path(str(engine.url.database)).is_file():
        return None
    return engine


def read_overview(
    engine: Engine | None,
    home: Path,
    model_name: str,
    now: datetime,
    length: timedelta,
    stages: Callable[[], Stages],
    rollout: Callable[[], Rollout | None],
) -> Overview:
    """Look at everything once.

    Args:
        engine: of the inference log; None: there is none.
        home: RESUNET_HOME.
        now: aware.
        length: what is looked back on.
        stages: asks what stands where; what it raises is told as everything else.
        rollout: the same of the last rollout; None: there was none.
    """
    span = Span.until(now, length)
    asked = told_of(stages, "")

    def stage(name: str) -> Told[Stage]:
        version = None if asked.value is None else getattr(asked.value, name)
        return Told(version, "" if version is not None else asked.missing or NO_VERSION, asked.failed)

    why = Told[Any](missing=NO_LOG) if engine is None else _unreadable(engine)

    def told(read: Callable[[Engine], _T | None], nothing: str) -> Told[_T]:
        if engine is None or why is not None:
            return why or Told()
        return told_of(lambda: read(engine), nothing)

    return Overview(
        model=model_name,
        span=span,
        production=stage("production"),
        staging=stage("staging"),
        rollout=told_of(rollout, "none was begun here: python -m serving rollout start"),
        traffic=told(lambda log: read_traffic(log, model_name, span), ""),
        drift=told(lambda log: _drift(log, model_name, span), "no report yet: python -m monitoring report"),
        trend=told(lambda log: _trend(log, model_name, span), "no trend yet: python -m monitoring trend"),
        dice=told(
            lambda log: _dice(log, model_name, span),
            "no image of these days has an audit's label yet: python -m monitoring pick",
        ),
        alerts=told(lambda log: _alerts(log, model_name), "never looked for: python -m monitoring alerts check"),
        jobs=told(lambda log: _jobs(log, now), "no job has ever run: python -m monitoring schedule"),
        disk=told_of(lambda: read_disk(home), ""),
    )


def told_of(read: Callable[[], _T | None], nothing: str) -> Told[_T]:
    """Read a part; what goes wrong is told in words, and `nothing` where there is nothing yet."""
    try:
        value = read()
    except ResunetError as error:
        return Told(missing=str(error), failed=True)
    except Exception as error:  # of a part that was damaged by hand, say: the others are told all the same
        return Told(missing=f"it cannot be read ({type(error).__name__})", failed=True)
    return Told(value, "" if value is not None else nothing)


def as_json(value: Any) -> Any:
    """The overview for programs: times are ISO 8601, lengths seconds; of a part that is not there null, and why."""
    if isinstance(value, Overview):
        told = {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
        missing = {name: part.missing for name, part in value.parts.items() if part.missing}
        return told | {"missing": missing, "failures": list(value.failures), "concerns": list(value.concerns)}
    if isinstance(value, Told):
        return as_json(value.value)
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value) if field.name not in _UNTOLD]
        return {name: as_json(getattr(value, name)) for name in names}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, tuple | list):
        return [as_json(one) for one in value]
    return {key: as_json(one) for key, one in value.items()} if isinstance(value, dict) else value


def _unreadable(engine: Engine) -> Told[Any] | None:
    """Why nothing can be read of a log; None where it can. Asked once: a dead database is waited for once."""

    def ask() -> Told[Any] | None:
        with explained(engine), engine.connect() as connection:
            found = stored_format(connection)
        if found is None:
            return Told(missing="nothing was logged yet: the database holds no predictions")
        if found != SCHEMA_VERSION:
            return Told(missing=f"{describe(engine)} is of another release (schema {found})", failed=True)
        return None

    asked = told_of(ask, "")
    return asked if asked.failed else asked.value


def _drift(engine: Engine, model_name: str, span: Span) -> Drift | None:
    found = _reports(engine, model_name, span.now, _MOST_READ, "window", "window by hand")
    if not found:
        return None
    last = _last(found)

    def like_it(report: WindowReport) -> bool:
        same_length = report.window_end - report.window_start == last.window_end - last.window_start
        return same_length and report.routes == last.routes and report.window_end > span.start

    return Drift(last, tuple(reversed([report for report in found if like_it(report)][:_MOST_REPORTS])))


def _trend(engine: Engine, model_name: str, span: Span) -> WindowReport | None:
    found = _reports(engine, model_name, span.now, _MOST_REPORTS, "trend", "trend by hand")
    return _last(found) if found else None


def _reports(engine: Engine, model_name: str, now: datetime, limit: int, *kinds: Kind) -> Sequence[WindowReport]:
    """Those of the kind with the newest window: a schedule's, or what a person asked for by hand since.

    A window that is not over says nothing yet.
    """
    over = now + CLOCKS_DIFFER
    read = [latest_reports(engine, model_name, limit=limit, before=over, kind=kind) for kind in kinds]
    return max((found for found in read if found), key=lambda found: _weight(_last(found)), default=())


def _last(found: Sequence[WindowReport]) -> WindowReport:
    """The newest with a verdict of its own: one on no image at all takes nothing back of what was seen before."""
    return next((report for report in found if report.rows), found[0])


def _weight(report: WindowReport) -> tuple[bool, datetime]:
    return report.rows > 0, report.window_end


def _dice(engine: Engine, model_name: str, span: Span) -> Dice | None:
    found = read_dice(engine, model_name, span.start, span.now)
    return found if found.versions else None


def _alerts(engine: Engine, model_name: str) -> tuple[Alert, ...] | None:
    with explained(engine):
        if not inspect(engine).has_table(alerts.name):
            return None
    return tuple(alert for alert in open_alerts(engine) if alert.model_name in ("", model_name))


def _jobs(engine: Engine, now: datetime) -> tuple[Job, ...] | None:
    found = jobs_state(engine)
    return tuple(Job(one, one.running(now), trouble(one, now, PATIENCE) or "") for one in found) or None
