"""How much may be in work at once, so that memory and waiting stay bounded however many clients ask.

    budget = WorkBudget(threads=6, wait_s=30)
    with budget.admit(pixels):                  # a request: all of its images together
        with budget.take(pixels, deadline):     # what of it is in memory at a time
            ...

Small images have a lane of their own, which large ones cannot fill. Requests of more are admitted only while some
threads of the server are left for small ones: a request that waits holds its thread, and the server has few.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Condition
from typing import Final

from resunet.images import MAX_PIXELS
from serving.errors import BusyError

# 2048 x 2048: under a second on two cores at width 16.
SMALL_PIXELS: Final = 1 << 22
_SMALL_LANE: Final = 4 * SMALL_PIXELS
# Threads that large requests leave free, of all: with 6 on two cores, two keep both cores busy.
_FREE_SHARE: Final = 1 / 4
_LEAST_FREE: Final = 2


class WorkBudget:
    """The turns of all requests of a process.

    Args:
        threads: requests that the server works on at a time.
        wait_s: longest wait for a turn.
    """

    def __init__(self, threads: int, wait_s: float) -> None:
        self._wait_s = wait_s
        self._large = _Lane(MAX_PIXELS)
        self._small = _Lane(_SMALL_LANE)
        self._admitted = BoundedSemaphore(max(1, threads - max(_LEAST_FREE, round(threads * _FREE_SHARE))))

    @contextmanager
    def admit(self, pixels: int) -> Iterator[None]:
        """Let a request in; one of more than a small image's pixels only while there is a thread to spare.

        Raises:
            BusyError: there is none; nothing is waited for.
        """
        if pixels <= SMALL_PIXELS:
            yield
            return
        if not self._admitted.acquire(blocking=False):
            raise BusyError("the server is busy with other large images; send the request again in a minute")
        try:
            yield
        finally:
            self._admitted.release()

    @contextmanager
    def take(self, pixels: int, deadline: float | None = None) -> Iterator[None]:
        """Wait for a turn and hold `pixels`; more than there are in all means all of them.

        Args:
            pixels: of the images that will be in memory.
            deadline: on the clock of `time.monotonic`; the wait ends there at the latest.

        Raises:
            BusyError: the wait was over before the turn came.
        """
        wait_s = self._wait_s if deadline is None else min(self._wait_s, deadline - time.monotonic())
        with (self._small if pixels <= SMALL_PIXELS else self._large).take(pixels, wait_s):
            yield


class _Lane:
    """A counted semaphore, first come first served: small takers do not starve a large one."""

    def __init__(self, pixels: int) -> None:
        self._limit = pixels
        self._free = pixels
        self._queue: deque[object] = deque()
        self._changed = Condition()

    @contextmanager
    def take(self, pixels: int, wait_s: float) -> Iterator[None]:
        share, ticket = min(pixels, self._limit), object()
        with self._changed:
            self._queue.append(ticket)
            try:
                if not self._changed.wait_for(lambda: self._queue[0] is ticket and self._free >= share, max(wait_s, 0)):
                    raise BusyError(
                        f"the server is busy: no turn came in {max(wait_s, 0):.0f} s; send the request again later"
                    )
                self._free -= share
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._changed.notify_all()
