"""Who decided what, when, on what evidence: rows that can be added but not changed unnoticed.

    append(engine, action="promote", actor="ada", model_name="resunet", version="3", …)
    verify(engine)   # None, or the first row that does not fit

Each row's hash covers its own content and the hash of the row before it. Triggers refuse UPDATE and DELETE.
Who may drop triggers can rewrite the whole chain: keep `head` elsewhere (a log, a ticket), and give it to
`verify`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, RowMapping, select

from records.database import exclusive, explained
from records.schema import audit, audit_head
from resunet.errors import RecordsError

GENESIS = "0" * 64


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
    stored = {name: None if value is None else _storable(value) for name, value in texts.items()}
    try:
        # What is hashed is what a reader gets back: tuples are lists and keys are text by then.
        evidence = json.loads(_canonical(gates))
    except (TypeError, ValueError) as error:
        raise RecordsError(f"the gates' results are not JSON: {error}") from error
    with explained(engine), exclusive(engine) as connection:
        last = connection.execute(select(audit_head.c.seq, audit_head.c.row_hash)).one_or_none()
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
        RecordsError: the database does not answer.
    """
    query = select(audit).order_by(audit.c.seq)
    if model_name is not None:
        query = query.where(audit.c.model_name == model_name)
    with explained(engine), engine.connect() as connection:
        return [_row(row) for row in connection.execute(query).mappings()]


def head(engine: Engine) -> Head | None:
    """The last row's number and hash; None while nothing was decided."""
    with explained(engine), engine.connect() as connection:
        last = connection.execute(select(audit_head.c.seq, audit_head.c.row_hash)).one_or_none()
    return Head(last.seq, last.row_hash) if last else None


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
        rows = connection.execution_options(yield_per=1000).execute(select(audit).order_by(audit.c.seq))
        for stored in rows.mappings():
            if stored["seq"] != expected_seq:
                return BrokenRow(expected_seq, "it was removed")
            if stored["previous_hash"] != previous:
                return BrokenRow(expected_seq, "it does not follow the row before it")
            try:
                intact = _row(stored).content_hash() == stored["row_hash"]
            except ValueError:
                intact = False
            if not intact:
                return BrokenRow(expected_seq, "its content was changed")
            expected_seq, previous = expected_seq + 1, stored["row_hash"]
            if must_hold.pop(stored["seq"], previous) != previous:
                return BrokenRow(stored["seq"], "it is not the row that the chain's end was noted as")
    return BrokenRow(expected_seq, "it was removed from the end") if must_hold else None


def _row(stored: RowMapping) -> AuditRow:
    return AuditRow(**dict(stored) | {"gates": json.loads(stored["gates"])})


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_mapping)


def _mapping(value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON-able")


def _storable(text: str) -> str:
    """Neither NUL nor half a surrogate pair can be stored."""
    return text.replace("\0", "�").encode("utf-8", "replace").decode("utf-8")
