"""A value that takes its time to read, read anew in a thread of its own: whoever asks is given what was read last.

    jobs = Aside(read_jobs, every_s=10, name="gateway-jobs")
    jobs.last()                 # None before the first reading has ended; begins another one where it is time
    jobs.last().age_s

What is asked for waits for nothing, and is read no more often than it is asked for.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from resunet.errors import ResunetError

# Of one core's time, at most, however much a reading has to compute: requests need it.
_LARGEST_SHARE: Final = 0.1
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Read(Generic[_T]):
    """What was read, and how long ago that was begun; fresh: it need not be read again yet."""

    value: _T
    age_s: float
    fresh: bool


class Aside(Generic[_T]):
    """Reads a value aside. Thread-safe.

    Args:
        read: may take long, and raise: then what was read before stays.
        every_s: seconds between the beginnings of two readings, at least.
        name: of the thread.
        clock: seconds.
    """

    def __init__(
        self, read: Callable[[], _T], every_s: float, name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read, self._every_s, self._name, self._clock = read, every_s, name, clock
        self._guard = threading.Lock()
        self._begun: float | None = None
        self._pause_s = every_s
        self._reading = False
        self._last: tuple[_T, float] | None = None

    def last(self) -> Read[_T] | None:
        """What was read last; another reading begins where it is time."""
        with self._guard:
            now, last = self._clock(), self._last
            due = self._begun is None or now - self._begun >= self._pause_s
            begins = due and not self._reading
            if begins:
                self._reading, self._begun = True, now
        if begins:
            self._begin()
        return None if last is None else Read(last[0], now - last[1], now - last[1] < self._pause_s)

    def _begin(self) -> None:
        try:
            threading.Thread(target=self._read_now, name=self._name, daemon=True).start()
        except RuntimeError:  # no thread is to be had: who asks next tries again
            self._reading, self._begun = False, None

    def _read_now(self) -> None:
        begun = self._clock()
        try:
            self._last = self._read(), begun
        except ResunetError as error:
            _log.debug("%s could not read: %s", self._name, error)
        except Exception:
            _log.exception("%s failed in a way that was not foreseen", self._name)
        finally:
            self._pause_s = max(self._every_s, time.thread_time() / _LARGEST_SHARE)
            self._reading = False
