"""Who has agreed that a version may go to a stage: bound to the version's bytes, so that other bytes need another word.

approve(engine, digest, "Production", Approval("ada", datetime.now(UTC), "looked at the worst twenty"))
approvals(engine, digest, "Production")
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, select

from records.engines import explained
from records.ledger import approvals as table
from records.texts import storable
from records.upsert import upsert


@dataclass(frozen=True)
class Approval:
    """One person's word."""

    who: str
    when: datetime
    reason: str


def approve(engine: Engine, digest: str, stage: str, approval: Approval) -> None:
    """Note an approval; somebody who approves again is counted once, with the later reason.

    Raises:
        RecordsError: the database refuses.
    """
    words = {"who": storable(approval.who), "reason": storable(approval.reason)}
    with explained(engine), engine.begin() as connection:
        upsert(connection, table, {"version_digest": digest, "stage": stage, "when": approval.when, **words})


def approvals(engine: Engine, digest: str, stage: str) -> list[Approval]:
    """Everybody who agreed, the first one first.

    Raises:
        RecordsError: the database does not answer.
    """
    chosen = (table.c.version_digest == digest) & (table.c.stage == stage)
    query = select(table.c.who, table.c.when, table.c.reason).where(chosen).order_by(table.c.when, table.c.who)
    with explained(engine), engine.connect() as connection:
        return [Approval(*row) for row in connection.execute(query)]
