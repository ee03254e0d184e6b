"""The life of one alert, as pure functions: quiet, pending, firing, recovered.

    rule = Rule(fire=Lasting(windows=2), recover=Lasting(windows=2))
    walked = walk(course, marks, rule)              # what came of it, mark by mark
    walked.end.status, walked.episodes

A *mark* is what was seen once: good, bad, or nothing that can be told. Marks of windows are read again with each
check, from the last *settled* course on, so that a report that was made again counts as it is now. Nothing here knows
the time: it is all in the marks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Self

from records.watch.alerts import Status

# Each time that an alert fired of late doubles how long it has to be good; no more often than this.
_DOUBLINGS: Final = 3
# So many of the newest marks may still change.
KEPT_OPEN: Final = 30


@dataclass(frozen=True)
class Lasting:
    """How long something has to last: so many marks in a row, and so long from the first to the last of them."""

    windows: int = 1
    time: timedelta = timedelta(0)

    def times(self, factor: int) -> "Lasting":
        """So many times as long."""
        return Lasting(self.windows * factor, self.time * factor)


@dataclass(frozen=True)
class Rule:
    """How long it has to be bad before it fires, and good before it has recovered.

    Attributes:
        flapping: while it has fired within this time before, recovery takes twice as long for each time, up to eight
            times as long.
    """

    fire: Lasting = Lasting()
    recover: Lasting = Lasting(windows=2)
    flapping: timedelta = timedelta(days=7)


@dataclass(frozen=True)
class Mark:
    """What was seen once.

    Attributes:
        at: the end of the window, or the moment at which somebody looked.
        good: None: nothing can be told; it neither breaks nor lengthens a row of marks.
        said: in one line, for people.
        details: further lines.
        since: when what it tells of began; None: at `at`.
        run_id: of the MLflow run that holds the report.
    """

    at: datetime
    good: bool | None
    said: str
    details: tuple[str, ...] = ()
    since: datetime | None = None
    run_id: str | None = None


@dataclass(frozen=True)
class Course:
    """Where an alert is after a mark.

    Attributes:
        anchor: the moment of that mark; None: there was none yet.
        bad: how many bad marks in a row, until it fires.
        bad_from: the moment of the first of them.
        since: when what they tell of began.
        good: how many good marks in a row, while it fires.
        good_from: the moment of the first of them.
        fired: the moment of the mark with which it fired; None: it does not.
        firings: such moments, of late.
    """

    anchor: datetime | None = None
    status: Status = "quiet"
    bad: int = 0
    bad_from: datetime | None = None
    since: datetime | None = None
    good: int = 0
    good_from: datetime | None = None
    fired: datetime | None = None
    firings: tuple[datetime, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        moments = {name: None if at is None else at.isoformat() for name, at in self._moments().items()}
        counts = {"status": self.status, "bad": self.bad, "good": self.good}
        return counts | moments | {"firings": [at.isoformat() for at in self.firings]}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Self:
        """The course that was written."""
        moments: dict[str, Any] = {name: told[name] and datetime.fromisoformat(told[name]) for name in cls()._moments()}
        firings = tuple(datetime.fromisoformat(at) for at in told["firings"])
        return cls(status=told["status"], bad=told["bad"], good=told["good"], firings=firings, **moments)

    def _moments(self) -> dict[str, datetime | None]:
        names = ("anchor", "bad_from", "since", "good_from", "fired")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Episode:
    """Once that it fired; `ended` is None while it does."""

    since: datetime
    fired: datetime
    ended: datetime | None = None


@dataclass(frozen=True)
class Walk:
    """What came of a row of marks.

    Attributes:
        end: where it is after the last one.
        settled: where it was before those that may still change.
        episodes: each time that it fired, the first one first; one that fired before the first mark is among them.
    """

    end: Course
    settled: Course
    episodes: tuple[Episode, ...] = field(default=())


def walk(course: Course, marks: Sequence[Mark], rule: Rule, kept_open: int = KEPT_OPEN) -> Walk:
    """Take marks in, in order of time; those that the course has seen already do not count.

    Args:
        kept_open: so many marks at the end may still change.
    """
    new = sorted((mark for mark in marks if course.anchor is None or mark.at > course.anchor), key=lambda m: m.at)
    settled, episodes = course, list[Episode]()
    if course.fired is not None:
        episodes.append(Episode(course.since or course.fired, course.fired))
    for number, mark in enumerate(new, 1):
        before, course = course, step(course, mark, rule)
        if before.fired is None and course.fired is not None:
            episodes.append(Episode(course.since or course.fired, course.fired))
        elif before.fired is not None and course.fired is None:
            episodes[-1] = replace(episodes[-1], ended=mark.at)
        if number == len(new) - kept_open:
            settled = course
    return Walk(course, settled, tuple(episodes))


def step(course: Course, mark: Mark, rule: Rule) -> Course:
    """Take one mark in."""
    course = replace(course, anchor=mark.at)
    if mark.good is None:
        return course
    return _good(course, mark, rule) if mark.good else _bad(course, mark, rule)


def damped(course: Course, rule: Rule) -> Lasting:
    """How long it has to be good before it counts as recovered."""
    return rule.recover.times(2 ** min(max(len(course.firings) - 1, 0), _DOUBLINGS))


def _bad(course: Course, mark: Mark, rule: Rule) -> Course:
    if course.status == "firing":
        return replace(course, good=0, good_from=None)
    bad_from = course.bad_from or mark.at
    course = replace(
        course, status="pending", bad=course.bad + 1, bad_from=bad_from, since=course.since or mark.since or mark.at
    )
    if course.bad < rule.fire.windows or mark.at - bad_from < rule.fire.time:
        return course
    lately = tuple(at for at in course.firings if at > mark.at - rule.flapping)
    return replace(course, status="firing", fired=mark.at, firings=(*lately, mark.at))


def _good(course: Course, mark: Mark, rule: Rule) -> Course:
    if course.status != "firing":
        return Course(anchor=mark.at, firings=course.firings)
    good_from = course.good_from or mark.at
    need = damped(course, rule)
    if course.good + 1 >= need.windows and mark.at - good_from >= need.time:
        return Course(anchor=mark.at, firings=course.firings)
    return replace(course, good=course.good + 1, good_from=good_from)
