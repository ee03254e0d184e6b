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
import threading
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
# Units a second.
SLOWEST, FASTEST = 1e-9, 1e9
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
        if not (SLOWEST <= self.per_second <= FASTEST and _UNIT <= self.burst < math.inf):
            raise SettingsError("a rate is from 1e-9 to 1e9 a second, with a burst of 1 or more: change the limit")


class Buckets:
    """A bucket a caller, all of one rate. Safe from many threads, and from many processes where they share the stores.

    What is in a bucket follows from the moment at which it will be full again (as in the generic cell rate algorithm,
    ITU-T I.371), so that this moment is all that is kept.

    Args:
        rate: of each caller.
        clock: seconds that never go back, the same for all who share the stores.
        stores: where the moments are kept; None: here, of MAX_CALLERS at most.
    """

    def __init__(self, rate: Rate, clock: Seconds = time.monotonic, stores: Stores | None = None) -> None:
        self.rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        # So long before its bucket is full a caller is let in.
        self._early = (rate.burst - _UNIT + _GRACE) / rate.per_second
        self._stores = OwnStores(MAX_CALLERS) if stores is None else stores

    def wait(self, caller: str) -> float:
        """Seconds until the caller is let in; 0 if it would be now. Takes nothing."""
        return self._asked(lambda now: self._stores.full_at(caller, now))

    def take(self, caller: str, cost: float = 1.0) -> float:
        """Take the cost, or nothing of it.

        Args:
            cost: in the rate's units, 0 or more; any size.

        Returns:
            0 if it was taken, else the seconds until the caller is let in.
        """
        if not 0 <= cost < math.inf:
            raise ValueError("a cost is a number from 0 up")
        seconds = cost / self.rate.per_second
        return self._asked(lambda now: self._stores.take(caller, now, seconds, now + self._early))

    def _asked(self, full_at: Callable[[float], float | None]) -> float:
        """Seconds to wait, of what is found out at a moment."""
        with self._lock:
            wait = self._wait(full_at)
            # Nobody is refused for what is no longer so: this process may have stood still in between.
            return wait and self._wait(full_at)

    def _wait(self, full_at: Callable[[float], float | None]) -> float:
        now = self._clock()
        found = full_at(now)
        if found is None or found <= now + self._early:
            return 0.0
        return found - now - (self.rate.burst - _UNIT) / self.rate.per_second


class Limits:
    """All that is counted a caller. Thread-safe.

    Args:
        requests: a second; None: any number.
        megapixels: a second, of the images sent; None: any number.
        failures: requests without a valid key that an address is told 401 for, before it is told 429.
        clock: seconds that never go back.
        stores: where it is counted, COUNTED of them; None: here.
    """

    def __init__(
        self,
        requests: Rate | None = None,
        megapixels: Rate | None = None,
        failures: Rate = Rate(per_second=0.2, burst=10),
        clock: Seconds = time.monotonic,
        stores: Sequence[Stores] | None = None,
    ) -> None:
        of_requests, of_megapixels, of_failures = stores or (None,) * COUNTED
        self._requests = None if requests is None else Buckets(requests, clock, of_requests)
        self._megapixels = None if megapixels is None else Buckets(megapixels, clock, of_megapixels)
        # Of its own: a flood of addresses makes no caller with a key forgotten.
        self._failures = Buckets(failures, clock, of_failures)

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
