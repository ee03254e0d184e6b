"""What is in store of each caller, and since when: what buckets keep between two requests."""

import threading
from collections import OrderedDict
from contextlib import AbstractContextManager
from typing import Protocol


class Stores(Protocol):
    """Remembers so many callers, and of more forgets the one that was not put for longest."""

    def held(self) -> AbstractContextManager[object]:
        """Nobody else reads or writes meanwhile."""

    def get(self, caller: str) -> tuple[float, float] | None:
        """What was in store, and when that was so; None: the caller is not remembered."""

    def put(self, caller: str, store: float, then: float) -> None:
        """Remember it."""

    @property
    def remembered(self) -> int:
        """How many callers are."""


class OwnStores:
    """Of this process: about 300 bytes a caller.

    Args:
        callers: how many are remembered.
    """

    def __init__(self, callers: int) -> None:
        self._callers = callers
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def held(self) -> AbstractContextManager[object]:
        """Against other threads."""
        return self._lock

    def get(self, caller: str) -> tuple[float, float] | None:
        """As of `Stores`."""
        return self._known.get(caller)

    def put(self, caller: str, store: float, then: float) -> None:
        """As of `Stores`."""
        self._known[caller] = store, then
        self._known.move_to_end(caller)
        while len(self._known) > self._callers:
            self._known.popitem(last=False)

    @property
    def remembered(self) -> int:
        """As of `Stores`."""
        return len(self._known)
