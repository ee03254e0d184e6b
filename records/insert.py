"""Spooled records to the database and the stores: an answer that is there already changes nothing.

    refused = insert_rows(engine, stores, [read_record(line), …])

Mask and image are brought to the disk before their row's transaction and to their place within it, and only for a row
that was not there: of a request that was sent again, all of it is the first one's. Of what was forgotten meanwhile only
an anonymous row is stored. The row's hour is summed up in the same transaction (`records.sketches`), where that can be
done.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
    StatementError,
)

from records import sketches
from records.new_rows import insert_new
from records.putting_by import put_by
from records.rows import Attached, from_record
from records.stores import Stores, Waiting
from records.tombstones import adding, known_forgotten
from resunet.errors import RecordsError

# A transaction holds SQLite's one writer, some 0.1 s for so many, and each ends with a wait for the disk.
_BATCH_ROWS = 1000
_BATCH_BYTES = 8 * 2**20

_log = logging.getLogger(__name__)


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
    waiting = put_by(stores, [(row.values["answer_id"], row.attached) for row in batch])
    unused = set(waiting)
    try:
        with adding(engine) as connection:
            rows = _remembered(connection, stores, list(zip(batch, waiting, strict=True)))
            # In one order everywhere: two processes that store the same answers must not wait for each other.
            rows.sort(key=lambda one: str(one[0].values["answer_id"]))
            new = insert_new(connection, [row.values for row, _ in rows])
            stored = []
            for row, put in rows:
                if row.values["answer_id"] in new:
                    new.remove(row.values["answer_id"])
                    stores.keep(row.values["answer_id"], row.attached, row.values["event_time"], put)
                    unused.discard(put)
                    stored.append(row.values)
                else:
                    stores.discard(row.attached)
            _sum_up(connection, stored)
    except StatementError as error:
        if isinstance(error, DBAPIError) and not isinstance(error, DataError | IntegrityError):
            raise
        if len(batch) == 1:
            return [batch[0].record]
        # One row that no database takes must not hold back the others.
        middle = len(batch) // 2
        return insert_rows(engine, stores, batch[:middle]) + insert_rows(engine, stores, batch[middle:])
    finally:
        for put in unused:
            stores.clear(put)
    return []


def _sum_up(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Count rows into their hours; where that fails they are stored without: whoever reads an hour sums it up again."""
    try:
        with connection.begin_nested():
            sketches.add(connection, rows)
    except (OperationalError, InterfaceError):
        # The database itself: nothing is stored, and the rows wait.
        raise
    except (SQLAlchemyError, RecordsError) as error:
        _log.warning("%d predictions are stored without being summed up: %s", len(rows), type(error).__name__)


def _remembered(
    connection: Connection, stores: Stores, batch: Sequence[tuple[Spooled, Waiting]]
) -> list[tuple[Spooled, Waiting]]:
    """The rows as they may be stored: of what was forgotten nothing but an anonymous row."""
    rows = []
    known = known_forgotten(connection, [row.values for row, _ in batch])
    for (row, put), anonymous in zip(batch, known, strict=True):
        if anonymous is None:
            rows.append((row, put))
        else:
            stores.delete([row.values["answer_id"]])
            rows.append((replace(row, values=anonymous, attached=Attached()), Waiting()))
    return rows
