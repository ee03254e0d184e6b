"""Who decided what, when, on what evidence: rows that can be added but not changed unnoticed.

    append(engine, action="promote", actor="ada", model_name="resunet", version="3", …)
    verify(engine)   # None, or the first row that does not fit

Each row's hash covers its own content and the hash of the row before it. Triggers refuse all but the next row
(`records.audit_triggers`). Who may drop triggers can rewrite the whole chain: keep `head` elsewhere (a log, a ticket),
and give it to `verify`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Select, Text, select, type_coerce

from records import audit_triggers
from records.engines import exclusive, explained
from records.ledger import audit, audit_head
from records.texts import storable
from resunet.errors import RecordsError

GENESIS = audit_triggers.GENESIS
# A row whose fields were changed to something else may fail in any of these ways when it is read.
_UNREADABLE = (ValueError, TypeError, RecursionError)


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """One decision, as stored."""

    seq: int
    when: datetime
    action: str
    actor: str
    model_name: str
    version: str
    from_stage: str | None
    to_stage: str | None
    digest: str | None
    gates: dict[str, Any]
    reason: str
    previous_hash: str
    row_hash: str

    def content_hash(self) -> str:
        """sha256 (hex) of the canonical JSON of every field but `row_hash`."""
        content = asdict(self) | {"when": self.when.astimezone(UTC).isoformat(timespec="microseconds")}
        del content["row_hash"]
        return hashlib.sha256(_canonical(content).encode()).hexdigest()


@dataclass(frozen=True)
class Move:
    """The part of a decision that is about stages."""

    action: str
    version: str
    from_stage: str | None
    to_stage: str | None
    digest: str | None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which rows are asked for; None takes all.

    Attributes:
        since, until: aware times; from `since` on, up to but without `until`.
    """

    model_name: str | None = None
    version: str | None = None
    actor: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class BrokenRow:
    """The first place where the chain does not hold."""

    seq: int
    why: str


@dataclass(frozen=True)
class Head:
    """The end of the chain: note it elsewhere, and a chain that was rewritten cannot pass for this one."""

    seq: int
    row_hash: str


def append(
    engine: Engine,
    *,
    action: str,
    actor: str,
    model_name: str,
    version: str,
    from_stage: str | None,
    to_stage: str | None,
    digest: str | None,
    gates: Mapping[str, Any],
    reason: str,
    when: datetime,
) -> AuditRow:
    """Add a decision to the end of the chain; any number of processes may do so at once.

    Args:
        action: promote | refuse | rollback | override | …
        digest: of the version's bytes, `sha256:…`.
        gates: results of the gates, JSON-able.
        when: aware.

    Raises:
        RecordsError: the database refuses, or a field cannot be stored.
    """
    if when.tzinfo is None:
        raise RecordsError("a decision needs an aware time: pass datetime.now(UTC)")
    texts = {
        "action": action, "actor": actor, "model_name": model_name, "version": version,
        "from_stage": from_stage, "to_stage": to_stage, "digest": digest, "reason": reason,
    }  # fmt: skip
    stored = {name: None if value is None else storable(value) for name, value in texts.items()}
    try:
        # What is hashed is what a reader gets back: tuples are lists and keys are text by then.
        evidence = json.loads(_canonical(gates))
    except (TypeError, ValueError) as error:
        raise RecordsError(f"the gates' results are not JSON: {error}") from error
    with explained(engine), exclusive(engine) as connection:
        last = _end(connection)
        if last is None and connection.scalar(select(audit.c.seq).limit(1)) is not None:
            raise RecordsError(
                "the chain of decisions has lost the note of its end, so nothing can be added to it: see "
                "`python -m registry audit verify`, and restore the database from a backup"
            )
        values = {
            **stored,
            "seq": last.seq + 1 if last else 1,
            "when": when.astimezone(UTC),
            "gates": evidence,
            "previous_hash": last.row_hash if last else GENESIS,
            "row_hash": "",
        }
        values["row_hash"] = AuditRow(**values).content_hash()
        connection.execute(audit.insert().values(**values | {"gates": _canonical(evidence)}))
        end = {"seq": values["seq"], "row_hash": values["row_hash"]}
        connection.execute(audit_head.update().values(**end) if last else audit_head.insert().values(id=1, **end))
    return AuditRow(**values)


def history(engine: Engine, model_name: str | None = None) -> list[AuditRow]:
    """Every decision on a model (or on all), oldest first.

    Raises:
        RecordsError: the database does not answer, or a row cannot be read.
    """
    return find(engine, Wanted(model_name=model_name))


def find(
    engine: Engine, wanted: Wanted, limit: int | None = None, *, after: int = 0, newest: bool = False
) -> list[AuditRow]:
    """The rows that are asked for, oldest first.

    Args:
        limit: at most so many; None takes all.
        after: only rows behind this one.
        newest: a limit keeps the newest ones, not the oldest.

    Raises:
        RecordsError: the database does not answer, or a row cannot be read.
    """
    query = _rows().where(audit.c.seq > after)
    for name in ("model_name", "version", "actor", "action"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(audit.c[name] == value)
    if wanted.since is not None:
        query = query.where(audit.c.when >= wanted.since)
    if wanted.until is not None:
        query = query.where(audit.c.when < wanted.until)
    if newest:
        query = query.order_by(None).order_by(audit.c.seq.desc())
    with explained(engine), engine.connect() as connection:
        try:
            rows = [_row(row) for row in connection.execute(query.limit(limit)).mappings()]
        except _UNREADABLE:
            raise RecordsError(
                "a decision in the records was changed to what is none: find it with "
                "`python -m registry audit verify`, and restore the database from a backup"
            ) from None
    return rows[::-1] if newest else rows


def moves(engine: Engine, model_name: str) -> list[Move]:
    """What every decision on a model moved, oldest first.

    Raises:
        RecordsError: the database does not answer.
    """
    columns = (audit.c.action, audit.c.version, audit.c.from_stage, audit.c.to_stage, audit.c.digest)
    query = select(*columns).where(audit.c.model_name == model_name).order_by(audit.c.seq)
    with explained(engine), engine.connect() as connection:
        return [Move(*row) for row in connection.execute(query)]


def head(engine: Engine) -> Head | None:
    """The last row's number and hash; None while nothing was decided."""
    with explained(engine), engine.connect() as connection:
        return _end(connection)


def verify(engine: Engine, noted: Head | None = None) -> BrokenRow | None:
    """Walk the chain and return the first row that was changed, removed, added or moved; None when all fit.

    Args:
        noted: a head that was noted elsewhere; the chain must still contain it.
    """
    expected_seq, previous = 1, GENESIS
    # Read the head before the rows: a row appended meanwhile then only makes the chain longer.
    must_hold = {end.seq: end.row_hash for end in (noted, head(engine)) if end is not None}
    if noted is not None and must_hold[noted.seq] != noted.row_hash:
        return BrokenRow(noted.seq, "it is not the row that was noted")
    with explained(engine), engine.connect() as connection:
        rows = connection.execution_options(yield_per=1000).execute(_rows())
        for stored in rows.mappings():
            if stored["seq"] != expected_seq:
                return BrokenRow(expected_seq, "it was removed")
            if stored["previous_hash"] != previous:
                return BrokenRow(expected_seq, "it does not follow the row before it")
            try:
                intact = _row(stored).content_hash() == stored["row_hash"]
            except _UNREADABLE:
                intact = False
            if not intact:
                return BrokenRow(expected_seq, "its content was changed")
            expected_seq, previous = expected_seq + 1, stored["row_hash"]
            if must_hold.pop(stored["seq"], previous) != previous:
                return BrokenRow(stored["seq"], "it is not the row that the chain's end was noted as")
    return _broken_end(engine, expected_seq, must_hold)


def _broken_end(engine: Engine, next_seq: int, missing: Mapping[int, str]) -> BrokenRow | None:
    """What is wrong behind the last row that was read."""
    if missing:
        return BrokenRow(next_seq, "it was removed from the end")
    # A row and the note of the end come in one transaction: read after the rows, the note covers them all.
    end = head(engine)
    if end is None and next_seq > 1:
        return BrokenRow(next_seq - 1, "the note that it is the chain's end was removed")
    if end is not None and end.seq < next_seq - 1:
        return BrokenRow(end.seq + 1, "it lies behind the noted end of the chain")
    return None


def _end(connection: Connection) -> Head | None:
    last = connection.execute(select(audit_head.c.seq, audit_head.c.row_hash).where(audit_head.c.id == 1)).one_or_none()
    if last is None:
        return None
    if not isinstance(last.seq, int):  # SQLite stores any kind of value in any column
        raise RecordsError("the note of the chain's end was changed to no number: restore the database from a backup")
    return Head(last.seq, last.row_hash)


def _rows() -> Select[Any]:
    """All rows in order; `when` as it is stored: SQLAlchemy fails on a garbled one without saying in which row."""
    columns = [type_coerce(column, Text).label("when") if column.name == "when" else column for column in audit.c]
    return select(*columns).order_by(audit.c.seq)


def _row(stored: RowMapping) -> AuditRow:
    return AuditRow(**dict(stored) | {"gates": json.loads(stored["gates"]), "when": _moment(stored["when"])})


def _moment(stored: object) -> datetime:
    """An aware time: PostgreSQL gives one, SQLite the text that `UtcTime` wrote."""
    moment = datetime.fromisoformat(stored) if isinstance(stored, str) else stored
    if not isinstance(moment, datetime):
        raise TypeError(f"{type(stored).__name__} is not a time")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_mapping)


def _mapping(value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON-able")
