"""Table `alert_messages`: what is to be told, and to whom. It is written with the alert, and sent from here afterwards.

    queue(connection, [Queued(alert_id=3, event="firing", recipient="default", number=1, …)])   # with the alert
    for message in waiting(engine):
        if (claimed := claim(engine, message, now)) is not None:        # one of several checkers gets it
            …                                                           # send it
            settle(engine, claimed, "delivered", now)

A message is sent at least once, and normally once: who dies before `settle` leaves a claim that runs out after LEASE,
and then the next checker sends it, again if need be. Of two who send it the one who claimed it last says what came of
it. Somebody who is told twice is better off than one who is not told.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    insert,
    inspect,
    or_,
    select,
    update,
)

from records.engines import explained
from records.schema import UtcTime
from records.texts import storable

Event = Literal["firing", "repeat", "recovered", "withdrawn", "passed", "ended", "retrained"]
Kind = Literal["info", "warning", "failure"]
Outcome = Literal["waiting", "delivered", "superseded", "given up"]

# Longer than a message may take to be sent (`records.notify.DEADLINE_SECONDS`), and than two machines' clocks differ.
LEASE: Final = timedelta(minutes=5)
_NUMBER = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

alert_messages = Table(
    "alert_messages",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("alert_id", _NUMBER, nullable=False),
    Column("event", Text, nullable=False),
    # The name of a list of addresses, and which of them: an address itself may hold a password.
    Column("recipient", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("run_id", Text),
    Column("made", UtcTime, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lease_until", UtcTime),
    Column("settled", UtcTime),
    Index("alert_messages_waiting", "outcome", "id"),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True, kw_only=True)
class Queued:
    """One message to one address.

    Attributes:
        recipient: name of a list of addresses.
        number: which of them, from 1 on.
        kind: how urgent it is, in the words of `records.notify.Message`.
        run_id: of the MLflow run that holds the report.
    """

    alert_id: int
    event: Event
    recipient: str
    number: int
    kind: Kind
    subject: str
    body: str
    run_id: str | None
    made: datetime


@dataclass(frozen=True, kw_only=True)
class Waiting(Queued):
    """A message that lies in the table.

    Attributes:
        attempts: how often it was claimed.
        lease_until: when the claim on it runs out, or, of one that was not taken, until when nobody tries again; None:
            it may be sent.
        settled: when it was told, or last not taken.
    """

    id: int
    attempts: int
    outcome: Outcome
    lease_until: datetime | None
    settled: datetime | None

    def paused(self, now: datetime) -> bool:
        """Whether it was not taken, and is not to be tried again yet."""
        return self.settled is not None and self.lease_until is not None and now < self.lease_until


def queue(connection: Connection, messages: Sequence[Queued]) -> None:
    """Add messages; of what is only repeated none from before is still worth sending."""
    table = alert_messages.c
    for message in messages:
        if message.event == "repeat":
            older = update(alert_messages).where(
                table.alert_id == message.alert_id,
                table.event == "repeat",
                table.recipient == message.recipient,
                table.number == message.number,
                table.outcome == "waiting",
                # Nobody is sending it just now.
                or_(table.lease_until.is_(None), table.settled.is_not(None)),
            )
            connection.execute(older.values(outcome="superseded", settled=message.made))
        words = {"subject": storable(message.subject), "body": storable(message.body)}
        connection.execute(insert(alert_messages).values(**asdict(message) | words, outcome="waiting", attempts=0))


def waiting(engine: Engine) -> list[Waiting]:
    """What is not told yet, the oldest first, also what somebody else is sending just now.

    Raises:
        RecordsError: the database does not answer.
    """
    return _read(engine, alert_messages.c.outcome == "waiting")


def messages_of(engine: Engine, alert_id: int) -> list[Waiting]:
    """Everything that was or is to be told of an alert, the oldest first.

    Raises:
        RecordsError: the database does not answer.
    """
    return _read(engine, alert_messages.c.alert_id == alert_id)


def claim(engine: Engine, message: Waiting, now: datetime) -> Waiting | None:
    """Take a message on and return it as it is claimed; None where somebody else has, or it is told already.

    Raises:
        RecordsError: the database does not answer.
    """
    table = alert_messages.c
    free = or_(table.lease_until.is_(None), table.lease_until <= now)
    mine = update(alert_messages).where(table.id == message.id, table.outcome == "waiting", free)
    claimed = {"lease_until": now + LEASE, "settled": None, "attempts": table.attempts + 1}
    taken = mine.values(**claimed).returning(alert_messages)
    with explained(engine), engine.begin() as connection:
        row = connection.execute(taken).first()
    return None if row is None else Waiting(**row._mapping)


def settle(
    engine: Engine, claimed: Waiting, outcome: Outcome, now: datetime, *, not_before: datetime | None = None
) -> bool:
    """Say what came of a message that was claimed; "waiting" leaves it to another checker.

    Args:
        claimed: as `claim` gave it.
        not_before: of one that waits on, when it is tried again.

    Returns:
        False: the claim ran out meanwhile, and somebody else has the message or has settled it; nothing is changed.

    Raises:
        RecordsError: the database does not answer.
    """
    values = {"outcome": outcome, "lease_until": not_before, "settled": now}
    table = alert_messages.c
    # Each claim has a number of its own.
    mine = (table.id == claimed.id, table.outcome == "waiting", table.attempts == claimed.attempts)
    with explained(engine), engine.begin() as connection:
        return connection.execute(update(alert_messages).where(*mine).values(**values)).rowcount == 1


def prune(engine: Engine, before: datetime) -> int:
    """Delete what was settled before a moment, and return how many messages that were.

    Raises:
        RecordsError: the database does not answer.
    """
    table = alert_messages.c
    old = delete(alert_messages).where(table.outcome != "waiting", table.settled < before)
    with explained(engine), engine.begin() as connection:
        return connection.execute(old).rowcount


def _read(engine: Engine, which: Any) -> list[Waiting]:
    with explained(engine):
        if not inspect(engine).has_table(alert_messages.name):
            return []
        with engine.connect() as connection:
            rows = connection.execute(select(alert_messages).where(which).order_by(alert_messages.c.id))
            return [Waiting(**row._mapping) for row in rows]
