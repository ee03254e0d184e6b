"""How much a caller may ask for: token buckets of requests and of megapixels.

    limits = Limits(requests=Rate(10, burst=20), megapixels=Rate(50, burst=200))
    wait_s = limits.request("caller")               # 0: go on; else come back after that many seconds
    wait_s = limits.pixels("caller", 100_000_000)   # once the size is known

**A cost above the burst.** A bucket lets anything in while it holds one whole unit, and takes the full cost, below zero
if need be: what is missing is a debt, which the rate pays back before the next one is let in. So

- an image of any size gets in, however small the burst, and is paid for in full: the rate holds in the long run. In any
  T seconds a caller gets at most `burst + rate * T`, and the last cost above one unit once on top of it;
- the wait that is told does not depend on what is asked for next. If a large cost had to find a full bucket, small ones
  of the same caller could keep it from ever filling up; here all wait for the same unit;
- costs of one unit or less, such as requests, never make a debt: for them this is the plain token bucket.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from resunet.errors import SettingsError
from serving.access.stores import OwnStores, Stores

Seconds = Callable[[], float]
MAX_CALLERS: Final = 10_000
# What `Limits` counts: requests, megapixels, requests without a valid key.
COUNTED: Final = 3
_UNIT: Final = 1.0
# Who waited exactly as long as told is let in, whatever was lost in rounding.
_GRACE: Final = 1e-6
_MEGA: Final = 1e6


@dataclass(frozen=True)
class Rate:
    """Units a second in the long run, and how many at once after a rest.

    Raises:
        SettingsError: a rate that lets nothing in, or never ends.
    """

    per_second: float
    burst: float

    def __post_init__(self) -> None:
        if not (0 < self.per_second < math.inf and _UNIT <= self.burst < math.inf):
            raise SettingsError("a rate is more than 0 a second, with a burst of 1 or more: change the limit")


class Buckets:
    """A bucket a caller, all of one rate. Thread-safe, and safe from several processes where their stores are shared.

    Args:
        rate: of each caller.
        clock: seconds, the same for all who share the stores; one that is set back stops no bucket from filling.
        stores: where the contents are kept; None: here, of `callers` at most.
        callers: how many are remembered; refused ones count as seen: who keeps asking is not forgotten first.
    """

    def __init__(
        self, rate: Rate, clock: Seconds = time.monotonic, callers: int = MAX_CALLERS, stores: Stores | None = None
    ) -> None:
        self.rate = rate
        self._clock = clock
        self._stores = OwnStores(callers) if stores is None else stores

    @property
    def remembered(self) -> int:
        """How many callers are."""
        return self._stores.remembered

    def wait(self, caller: str) -> float:
        """Seconds until the caller is let in; 0 if it would be now. Takes nothing."""
        with self._stores.held():
            return self._wait(self._store(caller, self._clock()))

    def take(self, caller: str, cost: float = 1.0) -> float:
        """Take the cost, or nothing of it.

        Args:
            cost: in the rate's units, 0 or more; any size.

        Returns:
            0 if it was taken, else the seconds until the caller is let in.
        """
        if not 0 <= cost < math.inf:
            raise ValueError("a cost is a number from 0 up")
        with self._stores.held():
            now = self._clock()
            store = self._store(caller, now)
            wait = self._wait(store)
            if not wait:
                self._stores.put(caller, store - cost, now)
            return wait

    def _store(self, caller: str, now: float) -> float:
        known = self._stores.get(caller)
        if known is None:
            return self.rate.burst
        store, then = known
        store = min(self.rate.burst, store + max(0.0, now - then) * self.rate.per_second)
        self._stores.put(caller, store, now)
        return store

    def _wait(self, store: float) -> float:
        missing = _UNIT - store
        return missing / self.rate.per_second if missing > _GRACE else 0.0


class Limits:
    """All that is counted a caller. Thread-safe.

    Args:
        requests: a second; None: any number.
        megapixels: a second, of the images sent; None: any number.
        failures: requests without a valid key that an address is told 401 for, before it is told 429.
        clock: seconds.
        callers: how many are remembered of each.
        stores: where the contents are kept, COUNTED of them; None: here.
    """

    def __init__(
        self,
        requests: Rate | None = None,
        megapixels: Rate | None = None,
        failures: Rate = Rate(per_second=0.2, burst=10),
        clock: Seconds = time.monotonic,
        callers: int = MAX_CALLERS,
        stores: Sequence[Stores] | None = None,
    ) -> None:
        of_requests, of_megapixels, of_failures = stores or (None,) * COUNTED
        self._requests = None if requests is None else Buckets(requests, clock, callers, of_requests)
        self._megapixels = None if megapixels is None else Buckets(megapixels, clock, callers, of_megapixels)
        # Of its own: a flood of addresses makes no caller with a key forgotten.
        self._failures = Buckets(failures, clock, callers, of_failures)

    def request(self, caller: str) -> float:
        """Take one request, unless the caller has to wait for that or still owes megapixels.

        Returns:
            0 if it was taken, else the seconds to wait.
        """
        owes = 0.0 if self._megapixels is None else self._megapixels.wait(caller)
        if self._requests is None:
            return owes
        return max(owes, self._requests.wait(caller)) if owes else self._requests.take(caller)

    def pixels(self, caller: str, pixels: int) -> float:
        """Take the pixels of a request's images together; see the module for images above the burst.

        Returns:
            0 if they were taken, else the seconds to wait.
        """
        return 0.0 if self._megapixels is None else self._megapixels.take(caller, pixels / _MEGA)

    def failure(self, address: str) -> float:
        """Count a request without a valid key.

        Returns:
            0, or the seconds to wait if the address has had too many.
        """
        return self._failures.take(address)
