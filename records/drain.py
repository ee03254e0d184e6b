"""From the spool to the database: each row once, whatever crashed in between.

The order is: rows, masks of those that are new, commit, then the segment is deleted. A crash anywhere leaves
the segment; draining it again changes nothing: rows that are there already are passed over. A segment that a
newer release wrote is left to that release.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from records.blobs import MaskStore
from records.engines import explained
from records.insert import Spooled, batches, insert_rows, read_record
from records.log_database import prepare_log
from records.rows import NewerRecordError
from records.spool import Spool, read_segment
from resunet.errors import RecordsError

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
        self._newer: set[Path] = set()
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
            prepare_log(self._engine)
            self._prepared = True
        self._spool.seal()
        rows = 0
        with self._spool.adopted() as abandoned:
            for segment in (*abandoned, *self._spool.sealed()):
                if segment in self._newer:
                    continue
                with suppress(FileNotFoundError):
                    rows += self._drain_segment(segment)
        self._purge_masks()
        return rows

    def _drain_segment(self, segment: Path) -> int:
        rejected: list[bytes] = []
        rows = 0
        try:
            for batch in batches(_readable(segment, rejected)):
                rejected += insert_rows(self._engine, self._masks, batch)
                rows += len(batch)
        except NewerRecordError as error:
            # A whole segment is of one release. It stays: what was stored of it is passed over the next time.
            if not self._newer:
                _log.error("%s, and others like it, are left for the release that wrote them: %s", segment, error)
            self._newer.add(segment)
            return rows
        if rejected:
            self._spool.reject(rejected)
            _log.error(
                "%d spooled predictions cannot be stored; they are in %s: mend the cause, then run "
                "`python -m records redrain`",
                len(rejected),
                self._spool.rejected,
            )
        self._spool.remove(segment)
        return rows

    def _purge_masks(self) -> None:
        now = self._clock()
        if self._purged is None or now - self._purged >= _DAY:
            self._purged = now
            self._masks.purge(now - self._retention)


def _readable(segment: Path, rejected: list[bytes]) -> Iterator[Spooled]:
    """Records of a segment; those that nobody can read are added to `rejected`."""
    for record, intact in read_segment(segment):
        try:
            if not intact:
                raise RecordsError("a checksum does not hold")
            yield read_record(record)
        except NewerRecordError:
            raise
        except RecordsError:
            rejected.append(record)
