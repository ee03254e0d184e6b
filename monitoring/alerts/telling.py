"""Sending what is queued: each message to its address, in order, at least once and normally once.

    told = deliver(engine, recipients, reports, lambda: datetime.now(UTC))
    told.delivered, told.problems

Of two checkers at once one claims a message. An address that is away is passed over until the next look; its messages
wait, in order, for GIVE_UP.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Engine

from monitoring.alerts.recipients import Place, Recipients
from monitoring.alerts.reports import Report, Reports
from records.notify import Message
from records.watch.outbox import Waiting, claim, settle, waiting

GIVE_UP: Final = timedelta(days=3)
# An address that takes the words may refuse the picture: after so many attempts they go without it.
_WITH_PICTURE: Final = 2


@dataclass(frozen=True)
class Told:
    """What came of it.

    Attributes:
        delivered: how many messages were taken.
        problems: sentences about those that were not.
    """

    delivered: int
    problems: tuple[str, ...]


def deliver(engine: Engine, recipients: Recipients, reports: Reports, clock: Callable[[], datetime]) -> Told:
    """Send everything that waits.

    Raises:
        RecordsError: the database does not answer. What was just sent may be sent again.
    """
    delivered, away, problems = 0, set[Place](), list[str]()
    for message in waiting(engine):
        place = (message.recipient, message.number)
        # Who has not heard that it began is not told that it is over.
        claimed = None if place in away else claim(engine, message, clock())
        if claimed is None:
            away.add(place)
            continue
        if recipients.tell(place, _message(message, reports)):
            settle(engine, claimed, "delivered", clock())
            delivered += 1
            continue
        away.add(place)
        late = clock() - message.made >= GIVE_UP
        settle(engine, claimed, "given up" if late else "waiting", clock())
        problems.append(_problem(message, recipients.described(place), late))
    return Told(delivered, tuple(problems))


def _message(message: Waiting, reports: Reports) -> Message:
    report = Report("") if message.run_id is None else reports.find(message.run_id)
    body = f"{message.body}\n\n{report.line}" if report.line else message.body
    picture = report.picture if message.attempts < _WITH_PICTURE else None
    return Message(message.subject, body, message.kind, attachments=(picture,) if picture else ())


def _problem(message: Waiting, address: str, late: bool) -> str:
    next_step = f"it was tried for {GIVE_UP.days} days and is given up" if late else "the next check tries again"
    told = address if address.endswith("not set") else f"{address} is away, or takes no message"
    return f"{told}: {message.subject} was not told; {next_step}"
