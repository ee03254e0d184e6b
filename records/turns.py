"""One decision at a time, among all processes that share a PostgreSQL database.

with held(engine, seconds=30):
    …
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from records.engines import describe, explained
from resunet.errors import RecordsError

# Any fixed number but that of `records.engines`.
_DECISION_LOCK = 0x7265_7376
_LOCK_NOT_AVAILABLE = "55P03"

_log = logging.getLogger(__name__)
_threads: WeakKeyDictionary[Engine, threading.Lock] = WeakKeyDictionary()
_threads_guard = threading.Lock()


@contextmanager
def held(engine: Engine, seconds: float) -> Iterator[None]:
    """Hold the lock of decisions on a PostgreSQL database, for longer than a transaction.

    It is a session's lock: it ends with the process, however that ends. Not to be taken twice by one thread.

    Args:
        seconds: to wait for it.

    Raises:
        RecordsError: somebody else holds it for longer, or the database does not answer.
    """
    give_up = time.monotonic() + seconds
    with _threads_guard:
        ours = _threads.setdefault(engine, threading.Lock())
    # First among this process's threads: each that waits at the database has a connection of the pool, and were they
    # to have them all, the one that decides would get none.
    if not ours.acquire(timeout=seconds):
        raise _too_long(engine, seconds)
    try:
        with explained(engine):
            connection = engine.connect()
        try:
            _lock(engine, connection, give_up, seconds)
            try:
                yield
            finally:
                _unlock(engine, connection)
        finally:
            connection.close()
    finally:
        ours.release()


def _lock(engine: Engine, connection: Connection, give_up: float, seconds: float) -> None:
    # No timeout is 0, and less than 0 an error.
    left_ms = max(1, int(1000 * (give_up - time.monotonic())))
    with explained(engine):
        try:
            # The lock is the session's and outlives this transaction; the timeout does not.
            with connection.begin():
                connection.execute(text(f"SET LOCAL lock_timeout = {left_ms}"))
                connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _DECISION_LOCK})
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
                raise _too_long(engine, seconds) from None
            raise


def _unlock(engine: Engine, connection: Connection) -> None:
    try:
        with connection.begin():
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _DECISION_LOCK})
    except SQLAlchemyError:
        # What was decided stands. The session is at an end, or is ended here: with it the lock.
        connection.invalidate()
        _log.warning("the connection that held the lock of decisions of %s was lost meanwhile", describe(engine))


def _too_long(engine: Engine, seconds: float) -> RecordsError:
    return RecordsError(
        f"another change of stage has held the lock of decisions of {describe(engine)} for {seconds:.0f} s; "
        "wait for it to end"
    )
