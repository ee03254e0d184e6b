"""Spooled records to the database and the mask store: an answer that is there already changes nothing.

    refused = insert_rows(engine, masks, [read_record(line), …])

A mask is written within its row's transaction, and only for a row that was not there: of a request that was
sent again, row and mask are both the first one's.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from records.blobs import MaskStore
from records.rows import from_record
from records.schema import predictions

# A transaction holds SQLite's one writer while masks are brought to the disk: some 0.1 s for so many.
_BATCH_ROWS = 100
_BATCH_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Spooled:
    """A record as it lies in the spool, and what it says."""

    record: bytes
    values: dict[str, Any]
    mask_rle: str | None


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


def insert_rows(engine: Engine, masks: MaskStore, batch: Sequence[Spooled]) -> list[bytes]:
    """Store a batch, and return the records that the database takes under no circumstances.

    Raises:
        SQLAlchemyError: the database does not answer; nothing of the batch, or of its second half, is stored.
        RecordsError: a mask cannot be written.
    """
    dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(predictions).on_conflict_do_nothing().returning(predictions.c.answer_id)
    # In one order everywhere: two processes that store the same answers must not wait for each other.
    ordered = sorted(batch, key=lambda row: str(row.values["answer_id"]))
    try:
        with engine.begin() as connection:
            new = set(connection.execute(statement, [row.values for row in ordered]).scalars())
            for row in ordered:
                if row.values["answer_id"] in new:
                    new.remove(row.values["answer_id"])
                    if row.mask_rle is not None:
                        masks.put(row.values["answer_id"], row.mask_rle, row.values["event_time"])
    except StatementError as error:
        if isinstance(error, DBAPIError) and not isinstance(error, DataError | IntegrityError):
            raise
        if len(batch) == 1:
            return [batch[0].record]
        # One row that no database takes must not hold back the others.
        return [record for one in ordered for record in insert_rows(engine, masks, [one])]
    return []
