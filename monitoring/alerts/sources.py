"""Where conditions read what they look at; what other parts of the platform give is asked for by its shape.

    sources = Sources.of_platform(engine, home)
    sources.measured(engine, "resunet", window)     # monitoring.performance, or None where it is not installed
    sources.jobs(engine)                            # records.watch.jobs, or None

A test, or another platform, gives its own functions instead.
"""

import importlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Engine

from monitoring.alerts.state import Mark
from monitoring.window import Window


class Interval(Protocol):
    """A mean with its interval."""

    @property
    def mean(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


class MeasuredDice(Protocol):
    """What the labels of a version came to, as `monitoring.performance.window.Measured` tells it."""

    @property
    def version(self) -> str: ...
    @property
    def slice(self) -> str | None: ...
    @property
    def route(self) -> str | None: ...
    @property
    def images(self) -> int: ...
    @property
    def dice(self) -> Interval: ...


class Job(Protocol):
    """A job of the schedule, as `records.watch.jobs.JobState` tells it."""

    @property
    def name(self) -> str: ...
    @property
    def due(self) -> datetime | None: ...
    @property
    def last_started(self) -> datetime | None: ...
    @property
    def last_finished(self) -> datetime | None: ...
    @property
    def last_outcome(self) -> str | None: ...
    @property
    def failed(self) -> bool: ...
    def overdue(self, now: datetime, patience: timedelta) -> bool: ...


MeasureDice = Callable[[Engine, str, Window], Sequence[MeasuredDice]]
ReadJobs = Callable[[Engine], Sequence[Job]]


@dataclass(frozen=True)
class Subject:
    """What one alert is about, besides its policy.

    Attributes:
        model: registered model; empty: none.
        version: empty: none, or all of them.
        named: the rest, in words.
    """

    model: str
    version: str
    named: str


@dataclass(frozen=True)
class Observation:
    """What was seen of one thing.

    Attributes:
        watched: False: nobody looks at it any more.
    """

    subject: Subject
    marks: tuple[Mark, ...]
    watched: bool = True


def _share_free(path: Path) -> float:
    """Of the disk that holds a folder, 0 to 1."""
    usage = shutil.disk_usage(path)
    return usage.free / usage.total if usage.total else 0.0


@dataclass(frozen=True)
class Sources:
    """What is read.

    Attributes:
        engine: of the inference log.
        home: RESUNET_HOME.
        measured: Dice by labels of random audits, by version; None: this release cannot tell.
        jobs: of the schedule; None: this release cannot tell.
        share_free: of the disk that holds a folder, 0 to 1.
    """

    engine: Engine
    home: Path
    measured: MeasureDice | None = None
    jobs: ReadJobs | None = None
    share_free: Callable[[Path], float] = _share_free

    def can_tell(self, condition: str) -> bool:
        """Whether what a condition looks at can be read here."""
        needs = {"measured_dice": self.measured, "job": self.jobs}
        return condition not in needs or needs[condition] is not None

    @classmethod
    def of_platform(cls, engine: Engine, home: Path) -> "Sources":
        """Those that are installed."""
        measured = _installed("monitoring.performance.window", "measured")
        return cls(engine, home, measured, _installed("records.watch.jobs", "jobs_state"))


def _installed(module: str, name: str) -> Any:
    """A function of the platform; None where its module is not there."""
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        return None
