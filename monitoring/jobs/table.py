"""The table of jobs: one entry each.

    jobs = jobs_of(Reporting(window="24h", …), known=commands_of(app), home=home, limit=timedelta(minutes=10))

A command that this release does not have yet is left out, and is a job as soon as it is there.
"""

import socket
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import typer

from monitoring.jobs.homes import home_name
from monitoring.jobs.job import Job, WindowsOf
from monitoring.jobs.windows import Rules
from monitoring.window import MIN_ROWS, parse_duration
from records.schema import ROUTES
from resunet.errors import SettingsError

_REPORT: Final = ("monitoring", "report", "--brief", "--tied", "--counts")
_TIED: Final = ("monitoring.jobs.tied",)
_CHECK_EVERY: Final = timedelta(minutes=5)
# A trend is of days, or of longer windows.
_TREND_WINDOW: Final = "24h"
# Labels come late: so many windows are measured anew, once a day.
_LABELLED_WINDOWS: Final = 14
_DAY: Final = timedelta(days=1)
_UPKEEP_EVERY: Final = timedelta(hours=6)
_LONGEST_CHECK: Final = timedelta(minutes=2)
# A training that failed is not tried again at once.
_RETRAIN_RETRY: Final = timedelta(minutes=10)


@dataclass(frozen=True)
class Reporting:
    """What the reports of a schedule are about.

    Attributes:
        window, every, watermark, back: as on the command line; no `every` is one window after the other.
        min_rows: with fewer rows a window has no verdict, and is left out of the trend.
        options: of `python -m monitoring report`, besides those that say which window and which version.
    """

    window: str = "24h"
    every: str | None = None
    watermark: str = "10m"
    back: str = "7d"
    model: str = "resunet"
    version: int | None = None
    stage: str = "Production"
    routes: tuple[str, ...] = ()
    min_rows: int = MIN_ROWS
    options: tuple[str, ...] = ()

    @property
    def rules(self) -> Rules:
        """When windows are reported.

        Raises:
            SettingsError: a length of time is none, or they do not go together.
        """
        every = None if self.every is None else parse_duration(self.every)
        return Rules.of(parse_duration(self.window), every, parse_duration(self.watermark), parse_duration(self.back))

    @property
    def name(self) -> str:
        """What tells it from other schedules on the same database: model, version, routes and windows."""
        name = f"{self._about} {self.window}"
        return name if self.every is None or self.rules.every == self.rules.length else f"{name} every {self.every}"

    @property
    def _about(self) -> str:
        which = f"version {self.version}" if self.version is not None else self.stage
        parts = (self.model, "" if which == "Production" else which, "+".join(sorted(self.routes)))
        return " ".join(filter(None, parts))

    @property
    def trend_window(self) -> str:
        """Length of the windows that its trend is of."""
        return max(_TREND_WINDOW, self.window, key=parse_duration)

    @property
    def trend_name(self) -> str:
        """What tells its trend from those of other schedules: several that ask the same share it."""
        return self._about if self.trend_window == _TREND_WINDOW else f"{self._about} {self.trend_window}"

    @property
    def performance_name(self) -> str:
        """What tells its measurement from those of other schedules: it is of all versions, unless one is named."""
        which = "" if self.version is None else f"version {self.version}"
        length = "" if self.trend_window == _TREND_WINDOW else self.trend_window
        return " ".join(filter(None, (self.model, which, "+".join(sorted(self.routes)), length)))

    @property
    def watched(self) -> WindowsOf:
        """What makes its job one of windows."""
        numbered = self.version is not None
        return WindowsOf(
            model=self.model,
            rules=self.rules,
            text=self.window,
            version_option=("--version", str(self.version)) if numbered else ("--stage", self.stage),
            by_rows=not numbered and self.stage == "Production",
        )


def jobs_of(
    reporting: Reporting, *, known: Collection[str], home: Path, limit: timedelta, retrain: timedelta | None = None
) -> list[Job]:
    """All jobs of a schedule.

    Args:
        known: commands of `python -m monitoring`.
        home: folder of masks and images.
        limit: longest run of a report.
        retrain: longest run of a retraining; None: no policy orders any.

    Raises:
        SettingsError: windows make no sense, or a route is none, or the home has no name and cannot be given one.
    """
    wrong = [name for name in reporting.routes if name not in ROUTES]
    if wrong:
        raise SettingsError(f"{wrong[0]!r} is not a route: choose from {', '.join(ROUTES)}")
    report = f"report {reporting.name}"
    routes = tuple(part for name in reporting.routes for part in ("--route", name))
    asked = (*routes, "--min-rows", str(reporting.min_rows))
    command = (*_REPORT, "--model", reporting.model, *reporting.options, *asked)
    jobs = [Job(report, command, reporting.rules.every, limit, windows=reporting.watched)]
    if "trend" in known:
        length, version = reporting.trend_window, reporting.watched.version_option
        which = ("--model", reporting.model, *version, "--window", length, *asked)
        trend = (*_TIED, "monitoring", "trend", "--brief", "--counts", *which)
        every = parse_duration(length)
        jobs.append(Job(f"trend {reporting.trend_name}", trend, every, limit, after=report, once_in=every))
    if "performance" in known:
        length = reporting.trend_window
        numbered = () if reporting.version is None else ("--version", str(reporting.version))
        which = ("--model", reporting.model, *numbered, "--window", length, *routes)
        measure = (*_TIED, "monitoring", "performance", "--windows", str(_LABELLED_WINDOWS), *which)
        every = parse_duration(length)
        name = f"performance {reporting.performance_name}"
        jobs.append(Job(name, measure, _DAY, limit, after=report, once_in=every))
    if "alerts" in known:
        alerts = (*_TIED, "monitoring", "alerts", "check")
        jobs.append(Job("alerts", alerts, _CHECK_EVERY, _LONGEST_CHECK, after=report))
    if (home / "masks").is_dir() or (home / "images").is_dir():
        # Each home has masks and images of its own.
        upkeep = (*_TIED, "records", "upkeep")
        jobs.append(Job(f"upkeep {home_name(home, socket.gethostname())}", upkeep, _UPKEEP_EVERY, limit))
    if retrain is not None:
        orders = (*_TIED, "monitoring", "alerts", "carry-out", "--model", reporting.model)
        jobs.append(
            Job(f"retrain {reporting.model}", orders, _CHECK_EVERY, retrain, after="alerts", retry=_RETRAIN_RETRY)
        )
    return jobs


def commands_of(app: typer.Typer) -> set[str]:
    """The names of a program's commands, those that have commands of their own among them."""
    plain = (info.name or info.callback.__name__.replace("_", "-") for info in app.registered_commands if info.callback)
    return {*plain, *(info.name for info in app.registered_groups if info.name)}
