"""Spooled records to the database and the stores: an answer that is there already changes nothing.

    refused = insert_rows(engine, stores, [read_record(line), …])

Mask and image are written within their row's transaction, and only for a row that was not there: of a request that was
sent again, all of it is the first one's. Of what was forgotten meanwhile only an anonymous row is stored.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from records.rows import Attached, from_record
from records.schema import predictions
from records.stores import Stores
from records.tombstones import adding, known_forgotten

# A transaction holds SQLite's one writer while masks are brought to the disk: some 0.1 s for so many.
_BATCH_ROWS = 100
_BATCH_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Spooled:
    """A record as it lies in the spool, and what it says."""

    record: bytes
    values: dict[str, Any]
    attached: Attached


def read_record(record: bytes) -> Spooled:
    """Decode a record.

    Raises:
        NewerRecordError: a newer release wrote it.
        RecordsError: it cannot be read.
    """
    return Spooled(record, *from_record(record))


def batches(rows: Iterable[Spooled]) -> Iterator[list[Spooled]]:
    """Group rows so that a group is neither long nor large: a mask of a large image takes megabytes."""
    batch: list[Spooled] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.record)
        if len(batch) == _BATCH_ROWS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def insert_rows(engine: Engine, stores: Stores, batch: Sequence[Spooled]) -> list[bytes]:
    """Store a batch, and return the records that the database takes under no circumstances.

    Raises:
        SQLAlchemyError: the database does not answer; nothing of the batch, or of its second half, is stored.
        RecordsError: a mask or an image cannot be written.
    """
    dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(predictions).on_conflict_do_nothing().returning(predictions.c.answer_id)
    try:
        with adding(engine) as connection:
            # In one order everywhere: two processes that store the same answers must not wait for each other.
            rows = sorted(_remembered(connection, stores, batch), key=lambda row: str(row.values["answer_id"]))
            new = set(connection.execute(statement, [row.values for row in rows]).scalars())
            for row in rows:
                if row.values["answer_id"] in new:
                    new.remove(row.values["answer_id"])
                    stores.keep(row.values["answer_id"], row.attached, row.values["event_time"])
                else:
                    stores.discard(row.attached)
    except StatementError as error:
        if isinstance(error, DBAPIError) and not isinstance(error, DataError | IntegrityError):
            raise
        if len(batch) == 1:
            return [batch[0].record]
        # One row that no database takes must not hold back the others.
        return [record for one in batch for record in insert_rows(engine, stores, [one])]
    return []


def _remembered(connection: Connection, stores: Stores, batch: Sequence[Spooled]) -> list[Spooled]:
    """The rows as they may be stored: of what was forgotten nothing but an anonymous row."""
    rows = []
    for row, anonymous in zip(batch, known_forgotten(connection, [row.values for row in batch]), strict=True):
        if anonymous is None:
            rows.append(row)
        else:
            stores.delete([row.values["answer_id"]])
            rows.append(replace(row, values=anonymous, attached=Attached()))
    return rows
