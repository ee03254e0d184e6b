"""Table `alerts`: a row for each thing that a policy looks at, and where its alert is in its life.

    for alert in open_alerts(engine):                                       # firing or pending; `read_alerts`: all
        …
    saved = save(engine, replace(alert, status="firing", …), messages)      # False: somebody else was faster
    acknowledge(engine, 12, Acknowledgement("ada", "the stain is new", now))

A row is changed only by who has seen its last revision, in one transaction with the messages that tell of the change:
of two checkers at once one changes it and tells, the other one does neither.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from records.engines import explained
from records.schema import UtcTime
from records.tables import prepare
from records.texts import one_line, storable
from records.watch import outbox
from resunet.errors import RecordsError

Status = Literal["quiet", "pending", "firing"]
Severity = Literal["info", "warning", "critical"]
Key = tuple[str, str, str, str]

_NUMBER = BigInteger().with_variant(Integer, "sqlite")
_KEY = ("policy", "model_name", "model_version", "subject")

metadata = MetaData()

alerts = Table(
    "alerts",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    *(Column(name, Text, nullable=False) for name in _KEY),
    Column("status", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("details", JSON, nullable=False),
    Column("run_id", Text),
    Column("since", UtcTime),
    Column("told_until", UtcTime),
    Column("told_at", UtcTime),
    Column("acknowledged_by", Text),
    Column("acknowledged_reason", Text),
    Column("acknowledged_at", UtcTime),
    Column("course", JSON, nullable=False),
    Column("updated", UtcTime, nullable=False),
    Column("revision", Integer, nullable=False),
    UniqueConstraint(*_KEY),
    sqlite_autoincrement=True,
)

# Both are written in one transaction.
TABLES: Final = (alerts, outbox.alert_messages)


@dataclass(frozen=True)
class Acknowledgement:
    """Somebody has seen an alert and says what comes of it: it is not repeated to others."""

    who: str
    reason: str
    when: datetime


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One thing that a policy looks at.

    Attributes:
        policy: its name.
        model_name: empty where it is not about a model (a job, a disk).
        model_version: empty where it is not about one version.
        subject: what else tells it apart, in words: routes and length of windows, a job, a folder.
        status: pending: it is bad, but not for long enough yet.
        summary: what was seen when it was last bad, in one line.
        details: further lines of it.
        run_id: of the MLflow run that holds the report on it.
        since: since when it is bad; None where it is quiet.
        told_until: the moment at which the last alert that was told of began to fire.
        told_at: when somebody was last told of it.
        course: of `monitoring.alerts.state`: where it was before the marks that may still change.
        updated: when this row was last written.
        id: None: it is not in the table yet.
        revision: how often it was written.
    """

    policy: str
    model_name: str
    model_version: str
    subject: str
    status: Status = "quiet"
    severity: Severity = "warning"
    summary: str = ""
    details: tuple[str, ...] = ()
    run_id: str | None = None
    since: datetime | None = None
    told_until: datetime | None = None
    told_at: datetime | None = None
    acknowledged_by: str | None = None
    acknowledged_reason: str | None = None
    acknowledged_at: datetime | None = None
    course: dict[str, Any]
    updated: datetime
    id: int | None = None
    revision: int = 0

    @property
    def key(self) -> Key:
        """What nothing else has."""
        return self.policy, self.model_name, self.model_version, self.subject


def about(alert: Alert) -> str:
    """What it is about: a version, a model, or a part of the platform."""
    if not alert.model_name:
        return one_line(alert.subject)
    return one_line(f"{alert.model_name} version {alert.model_version}" if alert.model_version else alert.model_name)


def read_alerts(engine: Engine) -> list[Alert]:
    """All rows, in the order in which they were made.

    Raises:
        RecordsError: the database does not answer.
    """
    with explained(engine):
        if not inspect(engine).has_table(alerts.name):
            return []
        with engine.connect() as connection:
            return [_alert(row._mapping) for row in connection.execute(select(alerts).order_by(alerts.c.id))]


def open_alerts(engine: Engine) -> list[Alert]:
    """What is firing, then what is pending; of each the one that began last first.

    Raises:
        RecordsError: the database does not answer.
    """
    found = [alert for alert in read_alerts(engine) if alert.status != "quiet"]
    found.sort(key=lambda alert: alert.since or alert.updated, reverse=True)
    return sorted(found, key=lambda alert: alert.status)


def is_over(connection: Connection, number: int) -> bool:
    """Whether an alert fires no more; what no alert is known of is not over."""
    if not inspect(connection).has_table(alerts.name):
        return False
    status = connection.scalar(select(alerts.c.status).where(alerts.c.id == number))
    return status is not None and status != "firing"


def save(
    engine: Engine,
    alert: Alert,
    messages: Callable[[int], Sequence[outbox.Queued]],
    also: Callable[[Connection, int], None] = lambda _connection, _number: None,
) -> bool:
    """Write a row and queue what tells of it, or neither of the two.

    Args:
        alert: with the revision that it was read with.
        messages: what tells of it, of the number that it has.
        also: is done in the same transaction, of that number.

    Returns:
        Whether the row was still the one that was read.

    Raises:
        RecordsError: the database does not answer.
    """
    values = asdict(alert) | {
        "details": [storable(line) for line in alert.details],
        "summary": storable(alert.summary),
        "subject": storable(alert.subject),
        "revision": alert.revision + 1,
    }
    del values["id"]
    with explained(engine), engine.begin() as connection:
        number = _add(connection, values) if alert.id is None else _change(connection, alert, values)
        if number is not None:
            outbox.queue(connection, messages(number))
            also(connection, number)
        return number is not None


def acknowledge(engine: Engine, number: int, word: Acknowledgement) -> Alert:
    """Note who has seen an alert; it is not repeated until it has recovered.

    Raises:
        RecordsError: there is no such alert, it does not fire, or the database does not answer.
    """
    prepare(engine, *TABLES)
    values = {
        "acknowledged_by": storable(word.who),
        "acknowledged_reason": storable(word.reason),
        "acknowledged_at": word.when,
        "revision": alerts.c.revision + 1,
    }
    firing = update(alerts).where(alerts.c.id == number, alerts.c.status == "firing").values(**values)
    with explained(engine), engine.begin() as connection:
        connection.execute(firing)
        row = connection.execute(select(alerts).where(alerts.c.id == number)).first()
    if row is None:
        raise RecordsError(f"there is no alert {number}: `python -m monitoring alerts list` shows those that there are")
    alert = _alert(row._mapping)
    if alert.status != "firing":
        raise RecordsError(f"alert {number} ({alert.policy}) is not firing: there is nothing to acknowledge")
    return alert


def _add(connection: Connection, values: dict[str, Any]) -> int | None:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(alerts).values(**values).on_conflict_do_nothing().returning(alerts.c.id)
    number: int | None = connection.scalar(statement)
    return number


def _change(connection: Connection, alert: Alert, values: dict[str, Any]) -> int | None:
    mine = update(alerts).where(alerts.c.id == alert.id, alerts.c.revision == alert.revision)
    return alert.id if connection.execute(mine.values(**values)).rowcount == 1 else None


def _alert(row: Any) -> Alert:
    values = dict(row)
    return Alert(**values | {"details": tuple(values["details"])})
