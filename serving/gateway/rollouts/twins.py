"""Requests that the candidate answers too, on their way to the process that does it.

    twins = Twins()
    twins.direct(address)               # of `serving.gateway.rollouts.shadow`; None: nobody wants them
    kept = twins.keep(row, mask)        # None: there is no room, and the image is left out
    twins.offer(Twin(assigned, kept, options, received, champion))      # at once

Nothing here waits for that process, and all images together hold no more than `HELD_BYTES` for it (beside one that is
larger, half of it), whether a twin is on its way or its request is still being answered: a candidate that is slow,
hangs or dies, and a client that reads slowly, cost requests that are not answered twice, and no answer.
"""

import logging
import threading
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.connection import Client, Connection
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serving.request import Options, Row
from serving.rollout.assignment import Assigned
from serving.rollout.cells import Answer

HELD_BYTES: Final = 64_000_000
# Of a twin, beside its image and its mask.
_OBJECTS_BYTES: Final = 2_000
_RETRY_SECONDS: Final = 0.5
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Kept:
    """Of one image what the candidate is to have.

    Attributes:
        row: the image as it was sent.
        mask: the champion's, (H, W) uint8 of class indices; None where it failed.
    """

    row: Row
    mask: NDArray[np.uint8] | None

    @property
    def held_bytes(self) -> int:
        """Roughly what it takes."""
        return _OBJECTS_BYTES + len(self.row.data) + (0 if self.mask is None else self.mask.nbytes)


@dataclass(frozen=True)
class Twin:
    """One image of a request, and what the champion made of it.

    Attributes:
        assigned: what the rollout wanted of the request.
        kept: the image, and its mask.
        options: of the request.
        received: when it came in, with a zone.
        champion: how the champion did.
    """

    assigned: Assigned
    kept: Kept
    options: Options
    received: datetime
    champion: Answer


class Twins:
    """Hands twins over, in a thread of its own; safe between threads.

    Attributes:
        skipped: twins that found no place.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._lock = threading.Condition()
        self._waiting: deque[Twin] = deque()
        self._held = 0
        self._address: str | None = None

    def direct(self, address: str | None) -> None:
        """From now on they go to this Unix socket, or nowhere."""
        with self._lock:
            if address == self._address:
                return
            self._address = address
            self._waiting.clear()
            self._lock.notify_all()
        if address is not None:
            threading.Thread(target=self._send_all, args=(address,), name="gateway-twins", daemon=True).start()

    def keep(self, row: Row, mask: NDArray[np.uint8] | None) -> Kept | None:
        """Hold on to an image, if there is room; it takes its room until nobody has it any more.

        Of those that are larger than all room there is, one has it, where no more than half is taken.
        """
        kept = Kept(row, mask)
        size = kept.held_bytes
        with self._lock:
            if self._address is None:
                return None
            if self._held + size > (HELD_BYTES if size <= HELD_BYTES else size + HELD_BYTES // 2):
                self.skipped += 1
                return None
            self._held += size
        # Whatever becomes of the request, its client and the candidate: nobody has to remember.
        weakref.finalize(kept, self._give_back, size).atexit = False
        return kept

    def offer(self, twin: Twin) -> None:
        """Hand over."""
        with self._lock:
            if self._address is not None:
                self._waiting.append(twin)
                self._lock.notify_all()

    def _give_back(self, size: int) -> None:
        with self._lock:  # it may be this thread's already: the lock of a condition is reentrant
            self._held -= size

    def _send_all(self, address: str) -> None:
        """Until the address is another one. A send may wait for ever: who ends the shadow ends that too."""
        pipe: Connection | None = None
        while (twin := self._next(address)) is not None:
            try:
                pipe = pipe or Client(address, "AF_UNIX")
                pipe.send(twin)
            except OSError:  # it is not there yet, or no longer: the twin is lost, and the next one tries again
                _close(pipe)
                pipe = None
                with self._lock:
                    self.skipped += 1
                    self._lock.wait_for(lambda: self._address != address, _RETRY_SECONDS)
            del twin  # else it would be kept until the next one comes
        _close(pipe)

    def _next(self, address: str) -> Twin | None:
        with self._lock:
            self._lock.wait_for(lambda: bool(self._waiting) or self._address != address)
            if self._address != address:
                return None
            return self._waiting.popleft()


def _close(pipe: Connection | None) -> None:
    if pipe is not None:
        with suppress(OSError):
            pipe.close()
