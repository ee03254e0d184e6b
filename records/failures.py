"""Requests that a server failed (5xx), summed up by the hour: a request that fails leaves no row in the log.

    counts = FailureCounts()
    counts.add("resunet", "/segment", 503, datetime.now(UTC))       # waits for nothing
    counts.flush(engine)                                            # adds them to the table; elsewhere, now and then
    read_failures(engine, "resunet", start, end)

Table `request_failures` holds sums: no request, no client. It is made by the first failure; who reads it before finds
nothing. A row takes some 100 bytes, an hour without a failure has none, and they stay.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, Column, Connection, Engine, Integer, MetaData, Table, Text, inspect, select

from records.engines import explained
from records.log_database import prepare_log
from records.schema import UtcTime
from records.sketches import hour_of
from records.tables import prepare
from records.upsert import add_up
from resunet.errors import RecordsError

# Of one process, while the database is away: weeks of them, since an hour has a few.
MOST_KEYS: Final = 2000
_PAUSE_S: Final = 10.0

metadata = MetaData()

request_failures = Table(
    "request_failures",
    metadata,
    Column("model_name", Text, primary_key=True),
    Column("hour", UtcTime, primary_key=True),
    # Of a route, as a template: /v2/models/{name}/infer.
    Column("path", Text, primary_key=True),
    Column("status", Integer, primary_key=True, autoincrement=False),
    Column("requests", BigInteger, nullable=False),
)

_log = logging.getLogger(__name__)


class Failed(NamedTuple):
    """Requests of one hour (its beginning) that failed alike."""

    hour: datetime
    path: str
    status: int
    requests: int


class _Key(NamedTuple):
    model_name: str
    hour: datetime
    path: str
    status: int


@dataclass
class FailureCounts:
    """What a process has counted and the database does not have yet. Thread-safe.

    Attributes:
        pause_s: so long after a failure `try_flush` leaves the database alone.
        clock: seconds.
    """

    pause_s: float = _PAUSE_S
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._guard = threading.Lock()
        self._flushing = threading.Lock()
        self._counts: Counter[_Key] = Counter()
        self._prepared = False
        self._again: float | None = None

    def add(self, model_name: str, path: str, status: int, now: datetime) -> None:
        """Count a request that failed now (aware); of too many hours the oldest is forgotten."""
        with self._guard:
            self._counts[_Key(model_name, hour_of(now), path, status)] += 1
            self._bound()

    def flush(self, engine: Engine) -> None:
        """Add to the database what was counted since; what cannot be added waits for the next time.

        A connection that breaks while it commits may leave sums that are added again.

        Raises:
            RecordsError: the database does not answer, gives no right to make the table, or is of another release.
        """
        with self._flushing:
            with self._guard:
                taken, self._counts = self._counts, Counter()
            if not taken:
                return
            try:
                self._write(engine, taken)
            except BaseException:
                self._prepared = False
                with self._guard:
                    # The older ones first, for the sake of the bound.
                    self._counts = taken + self._counts
                    self._bound()
                raise

    def try_flush(self, engine: Engine, *, at_once: bool = False) -> None:
        """The same in a background thread: what goes wrong is logged once, and tried again after a pause.

        Args:
            at_once: do not wait for the end of a pause.
        """
        if self._again is not None and self.clock() < self._again and not at_once:
            return
        try:
            self.flush(engine)
        except Exception as error:
            if self._again is None:
                # No sentence of ours: it is not known to be without secrets.
                told = str(error) if isinstance(error, RecordsError) else type(error).__name__
                _log.warning("the counts of failed requests wait in memory: %s", told)
            self._again = self.clock() + self.pause_s
        else:
            self._again = None

    def _write(self, engine: Engine, counts: Mapping[_Key, int]) -> None:
        if not self._prepared:
            prepare_log(engine)
            prepare(engine, request_failures)
            self._prepared = True
        # In one order: processes that add to the same rows would wait for each other else.
        rows = [key._asdict() | {"requests": count} for key, count in sorted(counts.items())]
        with explained(engine), engine.begin() as connection:
            add_up(connection, request_failures, rows, "requests")

    def _bound(self) -> None:
        while len(self._counts) > MOST_KEYS:
            del self._counts[next(iter(self._counts))]


def read_failures(engine: Engine, model_name: str, start: datetime, end: datetime) -> tuple[Failed, ...] | None:
    """The sums of the hours from a moment to another, the end left out, the oldest first; nothing is written.

    Returns:
        None where the role may not read the table.

    Raises:
        RecordsError: the database does not answer.
    """
    table = request_failures.c
    with explained(engine), engine.connect() as connection:
        if not inspect(connection).has_table(request_failures.name):
            return ()
        if not _may_read(connection):
            return None
        query = select(table.hour, table.path, table.status, table.requests).where(
            table.model_name == model_name, table.hour >= start, table.hour < end
        )
        return tuple(Failed(*row) for row in connection.execute(query.order_by(table.hour, table.path, table.status)))


def _may_read(connection: Connection) -> bool:
    if connection.dialect.name != "postgresql":
        return True
    asked = f"SELECT has_table_privilege(to_regclass('{request_failures.name}'), 'SELECT')"
    return bool(connection.exec_driver_sql(asked).scalar_one())
