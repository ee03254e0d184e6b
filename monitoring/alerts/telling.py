"""Sending what is queued: each message to its address, in order, at least once and normally once.

    told = deliver(engine, recipients, reports, lambda: datetime.now(UTC), draw=drawing.of)
    told.delivered, told.problems

Of two checkers at once one claims a message. An address that is away, or hangs, holds up no other one and is passed
over for a while, ever longer; its messages wait, in order, for GIVE_UP.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from monitoring.alerts.recipients import Place, Recipients
from monitoring.alerts.reports import Report, Reports
from monitoring.alerts.words import moment
from records.notify import Message
from records.watch.outbox import Waiting, claim, settle, waiting

GIVE_UP: Final = timedelta(days=3)
# With the deadline of one message (`records.notify.DEADLINE_SECONDS`) and a report that is looked up slowly, less than
# the two minutes that a schedule gives to a check.
LONGEST: Final = timedelta(seconds=45)
_AT_A_TIME: Final = 8
# One that takes the message, but says so too late, gets it again with each attempt.
_FIRST_PAUSE: Final = timedelta(minutes=1)
_LONGEST_PAUSE: Final = timedelta(hours=2)
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


def deliver(
    engine: Engine,
    recipients: Recipients,
    reports: Reports,
    clock: Callable[[], datetime],
    longest: timedelta = LONGEST,
    draw: Callable[[Waiting], Path | None] = lambda _: None,
) -> Told:
    """Send everything that waits, to several addresses at a time.

    Args:
        longest: after this no other message is begun; the rest is for the next look.
        draw: the picture of a message that is about no report; None: there is none.

    Raises:
        RecordsError: the database does not answer. What was just sent may be sent again.
    """
    queues: dict[Place, list[Waiting]] = {}
    for message in waiting(engine):
        queues.setdefault((message.recipient, message.number), []).append(message)
    if not queues:
        return Told(0, ())
    # First those that are likely to answer: the others may take all the time that there is.
    places = sorted(queues, key=lambda place: queues[place][0].attempts)
    for place in places:
        recipients.described(place)  # reads the addresses, which threads would do twice
    teller = _Teller(engine, recipients, reports, draw, clock, time.monotonic() + longest.total_seconds())
    with ThreadPoolExecutor(min(len(places), _AT_A_TIME)) as senders:
        told = list(senders.map(lambda place: teller.tell(place, queues[place]), places))
    return Told(sum(one.delivered for one in told), tuple(problem for one in told for problem in one.problems))


class _Teller:
    """Sends the messages of one address, in their order; see `deliver`."""

    def __init__(
        self,
        engine: Engine,
        recipients: Recipients,
        reports: Reports,
        draw: Callable[[Waiting], Path | None],
        clock: Callable[[], datetime],
        ends: float,
    ) -> None:
        self._engine = engine
        self._recipients = recipients
        self._reports = reports
        self._draw = draw
        self._clock = clock
        self._ends = ends
        self._looking = threading.Lock()

    def tell(self, place: Place, messages: Sequence[Waiting]) -> Told:
        """Up to the first one that is not taken: who has not heard that it began is not told that it is over."""
        for delivered, message in enumerate(messages):
            if time.monotonic() >= self._ends:
                late = f"{message.subject} was not told: there was no time left; the next check goes on"
                return Told(delivered, (f"{self._recipients.described(place)}: {late}",))
            now = self._clock()
            if message.paused(now) and message.lease_until is not None:
                return Told(delivered, (self._problem(message, place, _again(message.lease_until)),))
            claimed = claim(self._engine, message, now)
            if claimed is None:
                return Told(delivered, ())
            if not self._recipients.tell(place, self._message(message)):
                return Told(delivered, (self._failed(claimed, place),))
            settle(self._engine, claimed, "delivered", self._clock())
        return Told(len(messages), ())

    def _message(self, message: Waiting) -> Message:
        report = Report("")
        if message.run_id is not None:
            with self._looking:
                report = self._reports.find(message.run_id)
        body = f"{message.body}\n\n{report.line}" if report.line else message.body
        picture = report.picture or self._draw(message) if message.attempts < _WITH_PICTURE else None
        return Message(message.subject, body, message.kind, attachments=(picture,) if picture else ())

    def _failed(self, claimed: Waiting, place: Place) -> str:
        now = self._clock()
        if now - claimed.made >= GIVE_UP:
            settle(self._engine, claimed, "given up", now)
            return self._problem(claimed, place, f"it was tried for {GIVE_UP.days} days and is given up")
        not_before = now + min(_FIRST_PAUSE * 2 ** min(claimed.attempts - 1, 16), _LONGEST_PAUSE)
        settle(self._engine, claimed, "waiting", now, not_before=not_before)
        return self._problem(claimed, place, _again(not_before))

    def _problem(self, message: Waiting, place: Place, next_step: str) -> str:
        address = self._recipients.described(place)
        told = address if address.endswith("not set") else f"{address} is away, or takes no message"
        return f"{told}: {message.subject} was not told; {next_step}"


def _again(when: datetime) -> str:
    return f"the first check after {moment(when)} tries again"
