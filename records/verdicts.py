"""What the gates said of a version before a stage, and of what exactly: bytes, live version, policy, test split.

keep(engine, Kept(model_name="resunet", version="7", stage="Production", allowed=True, …))
latest(engine, "resunet", "7", "Production")
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, RowMapping, insert, select

from records.engines import explained
from records.ledger import verdicts
from records.texts import storable


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One judgement.

    Attributes:
        version_digest: of the bytes that were judged.
        champion_digest: of the version that was live then; empty where none was.
        policy_digest: of the rules that held.
        fingerprint: of the test rows; empty where nothing was measured on images.
        gates: one entry a gate, JSON-able.
        asked_by: who had it judged.
    """

    model_name: str
    version: str
    version_digest: str
    stage: str
    champion_digest: str
    policy_digest: str
    fingerprint: str
    allowed: bool
    gates: list[dict[str, Any]]
    asked_by: str
    when: datetime


def keep(engine: Engine, kept: Kept) -> None:
    """Add a judgement.

    Raises:
        RecordsError: the database refuses.
    """
    values = asdict(kept) | {"allowed": int(kept.allowed), "gates": json.dumps(kept.gates)}
    values["asked_by"] = storable(kept.asked_by)
    with explained(engine), engine.begin() as connection:
        connection.execute(insert(verdicts).values(**values))


def latest(engine: Engine, model_name: str, version: str, stage: str) -> Kept | None:
    """The last judgement of a version before a stage; None if there was none.

    Raises:
        RecordsError: the database does not answer.
    """
    chosen = (verdicts.c.model_name == model_name) & (verdicts.c.version == version) & (verdicts.c.stage == stage)
    query = select(verdicts).where(chosen).order_by(verdicts.c.id.desc()).limit(1)
    with explained(engine), engine.connect() as connection:
        row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _kept(row)


def _kept(row: RowMapping) -> Kept:
    values = {name: value for name, value in row.items() if name != "id"}
    return Kept(**values | {"allowed": bool(row["allowed"]), "gates": json.loads(row["gates"])})
