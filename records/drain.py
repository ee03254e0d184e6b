"""From the spool to the database: each row once, whatever crashed in between.

The order is: rows, masks and images of those that are new, commit, then the segment is deleted. A crash anywhere
leaves the segment; draining it again changes nothing: rows that are there already are passed over. A segment that a
newer release wrote is left to that release. What is too old is deleted elsewhere (`records.upkeep`), so that no row
waits for it.
"""

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Engine

from records import sketches
from records.engines import explained
from records.insert import Spooled, batches, insert_rows, read_record
from records.log_database import prepare_log
from records.rows import NewerRecordError
from records.spool import Spool, read_segment
from records.stores import Stores
from resunet.errors import RecordsError

_log = logging.getLogger(__name__)


class Drain:
    """Empties a spool into a database and the stores of its home; one round at a time."""

    def __init__(self, engine: Engine, spool: Spool, stores: Stores) -> None:
        self._engine = engine
        self._spool = spool
        self._stores = stores
        self._prepared = False
        self._newer: set[Path] = set()

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
            sketches.prepare(self._engine)
            self._prepared = True
        self._spool.seal()
        rows = 0
        with self._spool.adopted() as abandoned:
            for segment in (*abandoned, *self._spool.sealed()):
                if segment in self._newer:
                    continue
                with suppress(FileNotFoundError):
                    rows += self._drain_segment(segment)
        return rows

    def _drain_segment(self, segment: Path) -> int:
        rejected: list[bytes] = []
        rows = 0
        try:
            for batch in batches(_readable(segment, rejected)):
                rejected += insert_rows(self._engine, self._stores, batch)
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
