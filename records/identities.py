"""Which bytes a registered number stands for.

A number alone names nothing for long: who deletes a model and makes it again starts at 1. Number, moment of creation
and place of the files together name one registration; its digest is noted whenever its files are read whole.

    note(engine, Registration("resunet", "7", created_ms, source), digest)
    digest_of(engine, Registration("resunet", "7", created_ms, source))      # None: never read
"""

from dataclasses import asdict, dataclass

from sqlalchemy import Engine, and_, select

from records.engines import explained
from records.ledger import identities
from records.upsert import upsert


@dataclass(frozen=True)
class Registration:
    """One registration of a version, as the registry shows it.

    Attributes:
        created_ms: moment of creation, milliseconds since 1970.
        source: where its files are.
    """

    model_name: str
    version: str
    created_ms: int
    source: str


def note(engine: Engine, registration: Registration, digest: str) -> None:
    """Note the digest of a registration's files, as they were found now.

    Raises:
        RecordsError: the database refuses.
    """
    # Most are noted again as they were: whoever only looks at a version writes nothing.
    if digest_of(engine, registration) == digest:
        return
    with explained(engine), engine.begin() as connection:
        upsert(connection, identities, asdict(registration) | {"version_digest": digest})


def digest_of(engine: Engine, registration: Registration) -> str | None:
    """The digest that was noted; None where the files were never read.

    Raises:
        RecordsError: the database does not answer.
    """
    same = and_(*(identities.c[name] == value for name, value in asdict(registration).items()))
    query = select(identities.c.version_digest).where(same)
    with explained(engine), engine.connect() as connection:
        digest: str | None = connection.scalar(query)
    return digest
