"""When the bucket of each caller is full again: all that buckets keep between two requests."""

from collections import OrderedDict
from typing import Protocol


class Stores(Protocol):
    """Remembers so many callers. Not for two threads at a time; nothing here waits."""

    def full_at(self, caller: str, now: float) -> float | None:
        """When its bucket is full again, in seconds of the clock that says now; None: the caller is not remembered."""

    def take(self, caller: str, now: float, seconds: float, latest: float) -> float | None:
        """Have it be full so much later, counted from now where it is full already; what `full_at` was before.

        Args:
            latest: a bucket that is not full again by then is left as it is.
        """

    @property
    def remembered(self) -> int:
        """How many callers are."""


class OwnStores:
    """Of this process: about 300 bytes a caller.

    Args:
        callers: how many are remembered; of more the one that did not ask for longest is forgotten.
    """

    def __init__(self, callers: int) -> None:
        self._callers = callers
        self._known: OrderedDict[str, float] = OrderedDict()

    def full_at(self, caller: str, now: float) -> float | None:
        """As of `Stores`."""
        if caller in self._known:
            self._known.move_to_end(caller)
        return self._known.get(caller)

    def take(self, caller: str, now: float, seconds: float, latest: float) -> float | None:
        """As of `Stores`."""
        known = self.full_at(caller, now)
        if known is None or known <= latest:
            self._known[caller] = (now if known is None else max(known, now)) + seconds
            while len(self._known) > self._callers:
                self._known.popitem(last=False)
        return known

    @property
    def remembered(self) -> int:
        """As of `Stores`."""
        return len(self._known)
