"""The database of the jobs, there or away: who works on it goes on, and says once that it is gone.

reach = Reach(lambda: open_log(RecordsSettings.load()))
with reach.engine() as engine:      # None while it is away and not yet to be tried again
    …                               # a RecordsError in here says that it is away
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Engine

from records.watch.leases import LostLeaseError
from resunet.errors import RecordsError

log = logging.getLogger("monitoring.schedule")

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 15.0


class Reach:
    """Opens a database, and opens it again.

    Args:
        open_engine: raises a `RecordsError` where it is away.
        clock: seconds.
    """

    def __init__(self, open_engine: Callable[[], Engine], clock: Callable[[], float] = time.monotonic) -> None:
        self._open = open_engine
        self._clock = clock
        self._guard = threading.Lock()
        self._engine: Engine | None = None
        self._pause = 0.0
        self._again = 0.0

    def open(self) -> Engine:
        """The engine; for who does not wait for it.

        Raises:
            RecordsError: the database is away.
        """
        with self._guard:
            self._engine = self._engine or self._open()
            return self._engine

    @contextmanager
    def engine(self) -> Iterator[Engine | None]:
        """Yield the database's engine; an error of the block's, or of opening it, is told once and ends here.

        After an error it is left alone for a while: a second at first, then twice as long each time, up to 15 seconds.

        Raises:
            LostLeaseError: the block does; it is no sign of the database being away.
        """
        engine = self._opened()
        try:
            yield engine
            if engine is not None:
                self._found()
        except LostLeaseError:
            raise
        except RecordsError as error:
            self._lost(error)

    def _opened(self) -> Engine | None:
        with self._guard:
            if self._clock() < self._again:
                return None
        try:
            return self.open()
        except RecordsError as error:
            self._lost(error)
            return None

    def _found(self) -> None:
        with self._guard:
            if self._pause:
                log.warning("the database answers again: what was missed is made up")
            self._pause = self._again = 0.0

    def _lost(self, error: RecordsError) -> None:
        with self._guard:
            if not self._pause:
                log.error("%s. The schedule goes on, tries again, and makes up what it misses", str(error).rstrip("."))
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_S) or _FIRST_PAUSE_S
            self._again = self._clock() + self._pause
            if self._engine is not None:
                self._engine.dispose()
            self._engine = None
