"""What was measured of a version after it was registered, keyed by the digest of its bytes.

    keep(engine, digest, fingerprint, evaluation.model_dump_json(), datetime.now(UTC))
    find(engine, digest, fingerprint)      # the JSON, or None

A version's own `evaluation.json` is of the test split that it was made with. When that split grows, an older version
is measured on the new one: its bytes are sealed, so the result lives here.
"""

from datetime import datetime

from sqlalchemy import Engine, delete, insert, select

from records.database import exclusive, explained
from records.schema import evaluations


def keep(engine: Engine, digest: str, fingerprint: str, content: str, when: datetime) -> None:
    """Store a measurement; one of the same bytes on the same images is replaced.

    Args:
        digest: of the version's files, `sha256:…`, after they were checked.
        fingerprint: of the manifest's test rows.
        content: JSON, as `evaluation.json` holds it.
        when: aware.

    Raises:
        RecordsError: the database refuses.
    """
    same = (evaluations.c.version_digest == digest) & (evaluations.c.fingerprint == fingerprint)
    values = {"version_digest": digest, "fingerprint": fingerprint, "measured_at": when, "content": content}
    with explained(engine), exclusive(engine) as connection:
        connection.execute(delete(evaluations).where(same))
        connection.execute(insert(evaluations).values(**values))


def find(engine: Engine, digest: str, fingerprint: str) -> str | None:
    """The JSON of the measurement of these bytes on these images; None if there is none.

    Raises:
        RecordsError: the database does not answer.
    """
    same = (evaluations.c.version_digest == digest) & (evaluations.c.fingerprint == fingerprint)
    with explained(engine), engine.connect() as connection:
        content: str | None = connection.scalar(select(evaluations.c.content).where(same))
    return content
