"""Requests that the candidate answers too, on their way to the process that does it.

    twins = Twins()
    twins.direct(address)               # of `serving.gateway.rollouts.shadow`; None: nobody wants them
    twins.offer(twin)                   # at once; what finds no place is left out

Nothing here waits for that process, and nothing holds more than `HELD_BYTES` for it: a candidate that is slow, hangs or
dies costs requests that are not answered twice, and no answer.
"""

import logging
import threading
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
_RETRY_SECONDS: Final = 0.5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Twin:
    """One image of a request, and what the champion made of it.

    Attributes:
        assigned: what the rollout wanted of the request.
        row: the image as it was sent.
        options: of the request.
        received: when it came in, with a zone.
        champion: how the champion did.
        mask: its mask, (H, W) uint8 of class indices; None where it failed.
    """

    assigned: Assigned
    row: Row
    options: Options
    received: datetime
    champion: Answer
    mask: NDArray[np.uint8] | None

    @property
    def held_bytes(self) -> int:
        """Roughly what it takes."""
        return len(self.row.data) + (0 if self.mask is None else self.mask.nbytes)


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
            self._address, self._held = address, 0
            self._waiting.clear()
            self._lock.notify_all()
        if address is not None:
            threading.Thread(target=self._send_all, args=(address,), name="gateway-twins", daemon=True).start()

    def offer(self, twin: Twin) -> None:
        """Hand over, if there is room; the largest image has room where nothing else waits."""
        with self._lock:
            if self._address is None:
                return
            if self._waiting and self._held + twin.held_bytes > HELD_BYTES:
                self.skipped += 1
                return
            self._waiting.append(twin)
            self._held += twin.held_bytes
            self._lock.notify_all()

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
        _close(pipe)

    def _next(self, address: str) -> Twin | None:
        with self._lock:
            self._lock.wait_for(lambda: bool(self._waiting) or self._address != address)
            if self._address != address:
                return None
            twin = self._waiting.popleft()
            self._held -= twin.held_bytes
            return twin


def _close(pipe: Connection | None) -> None:
    if pipe is not None:
        with suppress(OSError):
            pipe.close()
