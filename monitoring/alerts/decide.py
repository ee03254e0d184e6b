"""What one more look at something changes, and whether somebody is told: a pure function of the row and the marks.

change = decide(alert, marks, Terms(rule, severity="warning"), now)
change.event        # None, "firing", "repeat", "recovered", "withdrawn", "passed"
change.alert        # the row as it is to be written
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from monitoring.alerts.state import KEPT_OPEN, Course, Episode, Lasting, Mark, Rule, Walk, damped, walk
from records.watch.alerts import Alert, Severity
from records.watch.outbox import Event


@dataclass(frozen=True)
class Terms:
    """What a policy says of its alerts.

    Attributes:
        repeat: how long after somebody was told it is told again, where it is still bad and nobody acknowledged it.
        kept_open: how many of the newest marks may still change; 0: none, what was seen was seen.
    """

    rule: Rule
    severity: Severity
    repeat: timedelta = timedelta(days=1)
    kept_open: int = KEPT_OPEN


@dataclass(frozen=True)
class Change:
    """What came of a look.

    Attributes:
        before: the row as it was read.
        alert: the row as it is to be written.
        event: what is to be told; None: nothing.
        episode: the one that is told of.
        said: what was seen last.
        recovery: how long it has to be good before it counts as recovered.
        fired_lately: how often it fired within the time that the policy calls flapping.
        fresh: how many marks the row's course did not hold.
    """

    before: Alert
    alert: Alert
    event: Event | None = None
    episode: Episode | None = None
    said: str = ""
    recovery: Lasting = field(default_factory=Lasting)
    fired_lately: int = 0
    fresh: int = 0


def unseen(policy: str, model_name: str, model_version: str, subject: str, now: datetime) -> Alert:
    """The row of what was never looked at."""
    return Alert(
        policy=policy,
        model_name=model_name,
        model_version=model_version,
        subject=subject,
        course=Course().to_json(),
        updated=now,
    )


def decide(alert: Alert, marks: Sequence[Mark], terms: Terms, now: datetime) -> Change:
    """Take what was seen into account.

    Args:
        alert: the row as it was read.
        marks: all that were seen; those that the row knows already are passed over.
    """
    course = Course.from_json(alert.course)
    walked = walk(course, marks, terms.rule, terms.kept_open)
    event = _event(alert, walked, terms, now)
    newest = _newest(marks, (True, False))
    after = replace(
        alert,
        status=walked.end.status,
        severity=terms.severity,
        since=walked.end.since,
        course=walked.settled.to_json(),
        updated=now,
    )
    if bad := _newest(marks, (False,)):
        after = replace(after, summary=bad.said, details=bad.details, run_id=bad.run_id)
    told = event is not None or alert.id is None
    if told and walked.episodes:
        # Of what is seen for the first time the past is known, and not told.
        after = replace(after, told_until=walked.episodes[-1].fired)
    if event is not None:
        after = replace(after, told_at=now)
    if after.status != "firing" or event == "firing":
        after = replace(after, acknowledged_by=None, acknowledged_reason=None, acknowledged_at=None)
    return Change(
        alert,
        after,
        event,
        walked.episodes[-1] if walked.episodes else None,
        newest.said if newest else "",
        damped(walked.end, terms.rule),
        len(walked.end.firings),
        sum(course.anchor is None or mark.at > course.anchor for mark in marks),
    )


def end(alert: Alert, marks: Sequence[Mark], now: datetime) -> Change:
    """Close what is not looked at any more: an old version, a job that is gone."""
    course = Course.from_json(alert.course)
    seen = [mark.at for mark in marks] + ([course.anchor] if course.anchor else [])
    closed = replace(
        alert,
        status="quiet",
        since=None,
        course=Course(anchor=max(seen, default=None)).to_json(),
        acknowledged_by=None,
        acknowledged_reason=None,
        acknowledged_at=None,
        updated=now,
    )
    if alert.status != "firing":
        return Change(alert, closed)
    episode = Episode(alert.since or alert.updated, alert.told_until or alert.updated, now)
    return Change(alert, replace(closed, told_at=now), "ended", episode)


def worth_writing(change: Change) -> bool:
    """Whether a row is to be written: a quiet one that stays as it is costs nothing.

    Its course is moved on now and then, so that the marks which it does not hold stay few.
    """
    before = change.before
    if before.id is None or change.event is not None or change.fresh > 2 * KEPT_OPEN:
        return True
    same = replace(change.alert, updated=before.updated, course=before.course)
    pending = change.alert.status != "quiet" and change.alert.course != before.course
    return pending or same != before


def _event(alert: Alert, walked: Walk, terms: Terms, now: datetime) -> Event | None:
    was, until = alert.status == "firing", alert.told_until
    if walked.end.status == "firing":
        if not was:
            return "firing"
        # What is about to recover is not called to mind once more.
        due = not walked.end.good and (alert.told_at is None or now - alert.told_at >= terms.repeat)
        return "repeat" if due and alert.acknowledged_at is None else None
    if was:
        # A report that was made again may have taken away what it fired for.
        lasted = any(one.ended is None or until is None or one.ended > until for one in walked.episodes)
        return "recovered" if lasted else "withdrawn"
    if alert.id is not None and any(until is None or one.fired > until for one in walked.episodes):
        return "passed"
    return None


def _newest(marks: Sequence[Mark], wanted: tuple[bool, ...]) -> Mark | None:
    return max((mark for mark in marks if mark.good in wanted), key=lambda mark: mark.at, default=None)
