"""From the spool to the database: each row once, whatever crashed in between.

The order is: masks, rows, commit, then the segment is deleted. A crash anywhere leaves the segment; draining
it again changes nothing: masks are replaced by themselves, rows that are there already are passed over.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from records.blobs import MaskStore
from records.database import explained, prepare
from records.rows import from_record
from records.schema import predictions
from records.spool import Spool, read_segment
from resunet.errors import RecordsError

_BATCH_ROWS = 500
_DAY = timedelta(days=1)

_log = logging.getLogger(__name__)


class Drain:
    """Empties a spool into a database and a mask store; one round at a time.

    Args:
        retention: masks of older predictions are deleted, once a day.
        clock: tells which those are.
    """

    def __init__(
        self,
        engine: Engine,
        spool: Spool,
        masks: MaskStore,
        retention: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._spool = spool
        self._masks = masks
        self._retention = retention
        self._clock = clock
        self._prepared = False
        self._purged: datetime | None = None

    def run(self) -> int:
        """Drain this process's segments and those of dead processes, and return how many rows there were.

        Raises:
            RecordsError: the database or a disk refuses; what was not drained stays in the spool.
        """
        try:
            with explained(self._engine):
                return self._run()
        except OSError as error:
            self._prepared = False
            raise RecordsError(
                f"the spool cannot be drained: {error.strerror}. Mend the disk; nothing is lost so far"
            ) from error
        except RecordsError:
            self._prepared = False
            raise

    def _run(self) -> int:
        # Other processes write here too: keep the spool's bound honest.
        self._spool.pending_bytes()
        if not self._prepared:
            # First of all: while the database is dead, segments are not sealed, so few are made.
            prepare(self._engine)
            self._prepared = True
        self._spool.seal()
        rows = 0
        with self._spool.adopted() as abandoned:
            for segment in (*abandoned, *self._spool.sealed()):
                with suppress(FileNotFoundError):
                    rows += self._drain_segment(segment)
        self._purge_masks()
        return rows

    def _drain_segment(self, segment: Path) -> int:
        batch: list[tuple[bytes, dict[str, Any]]] = []
        rejected: list[bytes] = []
        rows = 0
        for record, intact in read_segment(segment):
            try:
                if not intact:
                    raise RecordsError("a checksum does not hold")
                values, mask_rle = from_record(record)
            except RecordsError:
                rejected.append(record)
                continue
            if mask_rle is not None:
                key = (values["request_id"], values["model_version"], mask_rle, values["event_time"])
                self._masks.put(*key, model_name=values["model_name"])
            batch.append((record, values))
            if len(batch) == _BATCH_ROWS:
                rows += self._insert(batch, rejected)
                batch = []
        rows += self._insert(batch, rejected)
        if rejected:
            self._spool.reject(rejected)
            _log.error("%d spooled predictions cannot be stored; they are in spool/rejected", len(rejected))
        self._spool.remove(segment)
        return rows

    def _insert(self, batch: list[tuple[bytes, dict[str, Any]]], rejected: list[bytes]) -> int:
        if not batch:
            return 0
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        try:
            with self._engine.begin() as connection:
                statement = dialect.insert(predictions).on_conflict_do_nothing()
                connection.execute(statement, [values for _, values in batch])
        except StatementError as error:
            if isinstance(error, DBAPIError) and not isinstance(error, DataError | IntegrityError):
                raise
            if len(batch) == 1:
                rejected.append(batch[0][0])
                return 0
            # One row that no database takes must not hold back the others.
            return sum(self._insert([one], rejected) for one in batch)
        return len(batch)

    def _purge_masks(self) -> None:
        now = self._clock()
        if self._purged is None or now - self._purged >= _DAY:
            self._purged = now
            self._masks.purge(now - self._retention)
