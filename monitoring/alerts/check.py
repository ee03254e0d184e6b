"""One look at everything that the policies name: what changed is written down and told, once however many look.

    checked = check(sources, policies, recipients, now)
    checked.firing          # the alerts that fire now
    checked.problems        # what could not be looked at
    telling.deliver(engine, recipients, reports, clock)     # sends what is waiting

Rows are read before what they are compared with: whoever has seen older reports than the one who wrote last finds that
the row has changed since, and writes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Engine

from monitoring.alerts import retraining, words
from monitoring.alerts.decide import Change, decide, end, unseen, worth_writing
from monitoring.alerts.moments import observe_now
from monitoring.alerts.policy import Policy
from monitoring.alerts.recipients import Place
from monitoring.alerts.sources import Observation, Sources
from monitoring.alerts.windows import observe_windows
from records.tables import prepare
from records.watch import orders
from records.watch.alerts import TABLES, Alert, Key, Severity, read_alerts, save
from records.watch.orders import withdraw
from records.watch.outbox import Kind, Queued, prune
from resunet.errors import RecordsError, ResunetError

# What was told is kept for so long.
KEEP_MESSAGES: Final = timedelta(days=90)
_KINDS: Final[dict[Severity, Kind]] = {"info": "info", "warning": "warning", "critical": "failure"}
_Places = Callable[[Sequence[str]], tuple[Place, ...]]


@dataclass(frozen=True)
class Checked:
    """What came of a look.

    Attributes:
        firing: of these policies, also what somebody has acknowledged.
        problems: sentences about what could not be looked at.
    """

    firing: tuple[Alert, ...]
    problems: tuple[str, ...]


def check(
    sources: Sources, policies: Sequence[Policy], places: _Places, now: datetime, *, others_are_gone: bool = False
) -> Checked:
    """Look once, and queue what is to be told.

    Args:
        places: the addresses that some names have.
        others_are_gone: alerts of policies that are not among these are closed, and nobody is told.

    Raises:
        RecordsError: the database does not answer: what was not written is found again by the next look.
    """
    prepare(sources.engine, *TABLES)
    if any(policy.retrain is not None for policy in policies):
        prepare(sources.engine, orders.retrain_orders)
    known = {alert.key: alert for alert in read_alerts(sources.engine)}
    problems = list[str]()
    for policy in policies:
        mine = {key: alert for key, alert in known.items() if key[0] == policy.name}
        try:
            seen = _observe(sources, policy, now)
        except RecordsError:
            raise
        except ResunetError as error:
            problems.append(str(error))
            continue
        if seen is None:
            continue
        for change in _changes(policy, mine, seen, now):
            _write(sources.engine, policy, change, places, now)
    if others_are_gone:
        _close_others(sources.engine, policies, known, now)
    prune(sources.engine, now - KEEP_MESSAGES)
    names = {policy.name for policy in policies}
    after = (alert for alert in read_alerts(sources.engine) if alert.policy in names)
    return Checked(tuple(alert for alert in after if alert.status == "firing"), tuple(problems))


def _observe(sources: Sources, policy: Policy, now: datetime) -> list[Observation] | None:
    """What a policy sees; None where nobody can tell, which is no reason to close its alerts."""
    if not sources.can_tell(policy.when.name):
        return None
    if policy.when.by_windows:
        return observe_windows(sources.engine, policy.model_name, policy.when)
    return observe_now(sources, policy, now)


def _changes(policy: Policy, known: dict[Key, Alert], seen: Sequence[Observation], now: datetime) -> list[Change]:
    changes, left = list[Change](), dict(known)
    for one in seen:
        subject = one.subject
        key = (policy.name, subject.model, subject.version, subject.named)
        alert = left.pop(key, None)
        if one.watched:
            alert = alert or unseen(*key, now)
            changes.append(decide(alert, one.marks, policy.terms, now))
        elif alert is not None and alert.status != "quiet":
            changes.append(end(alert, one.marks, now))
    return changes + [end(alert, (), now) for alert in left.values() if alert.status != "quiet"]


def _write(engine: Engine, policy: Policy, change: Change, places: _Places, now: datetime) -> None:
    if not worth_writing(change):
        return
    more = retraining.lines(engine, policy, change, now)
    # Whoever was faster has told it, or will.
    save(
        engine,
        change.alert,
        lambda number: _messages(policy, change, places, number, now, more),
        lambda connection, number: retraining.act(connection, policy, change, number, now),
    )


def _messages(
    policy: Policy, change: Change, places: _Places, number: int, now: datetime, more: Sequence[str]
) -> list[Queued]:
    if change.event is None:
        return []
    message = Queued(
        alert_id=number,
        event=change.event,
        recipient="",
        number=0,
        kind="info" if change.event in ("recovered", "withdrawn", "ended") else _kind(policy),
        subject=words.subject(change.alert, change.event),
        body=words.body(change, change.event, number, now, more),
        run_id=change.alert.run_id,
        made=now,
    )
    return [replace(message, recipient=name, number=place) for name, place in places(policy.alert.to)]


def _kind(policy: Policy) -> Kind:
    return _KINDS[policy.alert.severity]


def _close_others(engine: Engine, policies: Sequence[Policy], known: dict[Key, Alert], now: datetime) -> None:
    names = {policy.name for policy in policies}
    for alert in known.values():
        if alert.policy not in names and alert.status != "quiet":
            closed = end(alert, (), now)
            save(engine, closed.alert, lambda _: (), lambda connection, number: withdraw(connection, number, now))
