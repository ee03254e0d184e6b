"""What was measured of a version, kept by the digest of the bytes that were measured.

    keep(engine, Measured(digest, kind="robustness", content=document.model_dump_json(), …))
    find(engine, digest, fingerprint, champion_digest)     # {"robustness": "{…}", …}

A measurement holds for one digest; one of images also for the test split that they are of, one beside the live version
also for that version's digest. Where any of these changes it is no longer found: it has to be measured anew.
"""

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Engine, func, select

from records.engines import explained
from records.ledger import evidence
from records.texts import storable
from records.upsert import upsert


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One measurement.

    Attributes:
        version_digest: of the version's files, `sha256:…`, after they were checked.
        kind: of the document, such as `scores`.
        fingerprint: of the test rows that it was measured on; empty where no images matter.
        champion_digest: of the version that it was measured beside; empty where there was none.
        content: JSON.
        measured_by: who had it measured.
        measured_at: aware.
    """

    version_digest: str
    kind: str
    content: str
    measured_by: str
    measured_at: datetime
    fingerprint: str = ""
    champion_digest: str = ""


def keep(engine: Engine, measured: Measured) -> None:
    """Store a measurement; an earlier one of the same is replaced.

    Raises:
        RecordsError: the database refuses.
    """
    with explained(engine), engine.begin() as connection:
        upsert(connection, evidence, asdict(measured) | {"measured_by": storable(measured.measured_by)})


def find(engine: Engine, digest: str, fingerprint: str = "", champion_digest: str = "") -> dict[str, Measured]:
    """What holds of these bytes, on this test split, beside this live version: the measurements by kind.

    Raises:
        RecordsError: the database does not answer.
    """
    chosen = (
        (evidence.c.version_digest == digest)
        & evidence.c.fingerprint.in_(("", fingerprint))
        & evidence.c.champion_digest.in_(("", champion_digest))
    )
    # The more specific one comes later and stays.
    order = (evidence.c.kind, func.length(evidence.c.fingerprint), func.length(evidence.c.champion_digest))
    query = select(evidence).where(chosen).order_by(*order)
    with explained(engine), engine.connect() as connection:
        rows = [Measured(**row) for row in connection.execute(query).mappings()]
    return {row.kind: row for row in rows}


def of_bytes(engine: Engine, digest: str) -> list[Measured]:
    """All that was ever measured of these bytes, on any test split and beside any version, the oldest first.

    Raises:
        RecordsError: the database does not answer.
    """
    query = select(evidence).where(evidence.c.version_digest == digest)
    order = (evidence.c.measured_at, evidence.c.kind, evidence.c.fingerprint, evidence.c.champion_digest)
    with explained(engine), engine.connect() as connection:
        return [Measured(**row) for row in connection.execute(query.order_by(*order)).mappings()]


def uses(engine: Engine, fingerprint: str, kind: str) -> int:
    """How many different versions were measured on a test split: each look at it makes it a little less of a test.

    Raises:
        RecordsError: the database does not answer.
    """
    chosen = (evidence.c.fingerprint == fingerprint) & (evidence.c.kind == kind)
    query = select(func.count(evidence.c.version_digest.distinct())).where(chosen)
    with explained(engine), engine.connect() as connection:
        return connection.scalar(query) or 0
