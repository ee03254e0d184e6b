"""Table `retrain_orders`: retrainings that an alert asked for, and what became of them.

    place(connection, Wanted(…), alert_id, now)         # in the transaction that changes the alert
    order = open_order(engine, "resunet")
    begin(connection, order, now)                       # under the lease of the job that carries it out
    end(connection, order, Ended("done", "version 8 is in Staging", "8"), now)

A model has at most one order that is open or being carried out: a unique index sees to it. The table is made with the
first order; who reads it before finds nothing.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from records.engines import explained
from records.schema import UtcTime
from records.texts import storable

State = Literal["open", "running", "done", "failed", "withdrawn"]
_UNFINISHED: Final = ("open", "running")
_NUMBER = BigInteger().with_variant(Integer, "sqlite")
_ONE = text("state IN ('open', 'running')")

metadata = MetaData()

retrain_orders = Table(
    "retrain_orders",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("model_name", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("alert_id", _NUMBER, nullable=False),
    Column("reason", Text, nullable=False),
    # Names of those who are told what became of it.
    Column("recipients", JSON, nullable=False),
    Column("promote", Boolean, nullable=False),
    Column("max_minutes", Float, nullable=False),
    Column("made", UtcTime, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("started", UtcTime),
    Column("ended", UtcTime),
    Column("outcome", Text),
    Column("version", Text),
    Index("retrain_orders_one", "model_name", unique=True, sqlite_where=_ONE, postgresql_where=_ONE),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a policy asks for.

    Attributes:
        reason: what the alert saw, for people.
        recipients: names of lists of addresses.
        promote: what was trained is to go on to Production, if the gates let it.
        max_minutes: how long to train; 0: as long as a training by hand.
        at_most_every: no sooner than so long after the last order was placed.
    """

    model_name: str
    policy: str
    reason: str
    recipients: tuple[str, ...]
    promote: bool
    max_minutes: float
    at_most_every: timedelta


@dataclass(frozen=True, kw_only=True)
class Order:
    """A row of the table.

    Attributes:
        attempts: how often it was begun.
        outcome: what became of it, in a sentence; of one that was begun and cut off, that.
        version: that was registered.
    """

    id: int
    model_name: str
    policy: str
    alert_id: int
    reason: str
    recipients: tuple[str, ...]
    promote: bool
    max_minutes: float
    made: datetime
    state: State
    attempts: int
    started: datetime | None
    ended: datetime | None
    outcome: str | None
    version: str | None


@dataclass(frozen=True)
class Ended:
    """How an order ended."""

    state: Literal["open", "done", "failed"]
    outcome: str
    version: str | None = None


def place(connection: Connection, wanted: Wanted, alert_id: int, now: datetime) -> bool:
    """Order a retraining; False where one is under way already, or the last one is too recent."""
    last = connection.scalar(
        select(func.max(retrain_orders.c.made)).where(
            retrain_orders.c.model_name == wanted.model_name, retrain_orders.c.state != "withdrawn"
        )
    )
    if last is not None and now - last < wanted.at_most_every:
        return False
    values = asdict(wanted) | {"reason": storable(wanted.reason), "recipients": list(wanted.recipients)}
    del values["at_most_every"]
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = dialect.insert(retrain_orders).values(**values, alert_id=alert_id, made=now, state="open", attempts=0)
    return connection.scalar(row.on_conflict_do_nothing().returning(retrain_orders.c.id)) is not None


def withdraw(
    connection: Connection, alert_id: int, now: datetime, why: str = "its alert was over before anything was released"
) -> None:
    """Take back what an alert has ordered, where nobody has begun it."""
    if not inspect(connection).has_table(retrain_orders.name):
        return
    fresh = retrain_orders.c.state == "open", retrain_orders.c.attempts == 0
    mine = update(retrain_orders).where(retrain_orders.c.alert_id == alert_id, *fresh)
    connection.execute(mine.values(state="withdrawn", ended=now, outcome=why))


def begin(connection: Connection, order: Order, now: datetime) -> bool:
    """Note that an order is carried out from now on; False where it is none any more."""
    values = {"state": "running", "started": now, "attempts": retrain_orders.c.attempts + 1}
    return connection.execute(update(retrain_orders).where(*_this(order)).values(**values)).rowcount == 1


def put_back(connection: Connection, order: Order, outcome: str) -> None:
    """Note that an order could not be begun after all, as it was read before `begin`: that was no attempt."""
    values = {"state": "open", "attempts": order.attempts, "outcome": storable(outcome)}
    connection.execute(update(retrain_orders).where(*_this(order)).values(**values))


def end(connection: Connection, order: Order, how: Ended, now: datetime) -> None:
    """Note what became of an order; "open" leaves it to the next run."""
    ended = None if how.state == "open" else now
    values = {"state": how.state, "ended": ended, "outcome": storable(how.outcome), "version": how.version}
    connection.execute(update(retrain_orders).where(*_this(order)).values(**values))


def open_order(engine: Engine, model_name: str) -> Order | None:
    """The order of a model that is to be carried out, or is being.

    Raises:
        RecordsError: the database does not answer.
    """
    unfinished = retrain_orders.c.model_name == model_name, retrain_orders.c.state.in_(_UNFINISHED)
    return next(iter(_read(engine, *unfinished)), None)


def read_orders(engine: Engine, model_name: str | None = None) -> list[Order]:
    """All orders, the oldest first.

    Raises:
        RecordsError: the database does not answer.
    """
    return _read(engine, *(() if model_name is None else (retrain_orders.c.model_name == model_name,)))


def _this(order: Order) -> Sequence[Any]:
    return retrain_orders.c.id == order.id, retrain_orders.c.state.in_(_UNFINISHED)


def _read(engine: Engine, *which: Any) -> list[Order]:
    with explained(engine):
        if not inspect(engine).has_table(retrain_orders.name):
            return []
        with engine.connect() as connection:
            rows = connection.execute(select(retrain_orders).where(*which).order_by(retrain_orders.c.id)).mappings()
            return [Order(**dict(row) | {"recipients": tuple(row["recipients"])}) for row in rows]
