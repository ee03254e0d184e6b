"""How many pixels may be in work at once, so that memory stays bounded however many clients ask.

budget = PixelBudget(MAX_PIXELS)
with budget.take(pixels):
    ...
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock


class PixelBudget:
    """A counted semaphore, first come first served: small requests do not starve a large one."""

    def __init__(self, pixels: int) -> None:
        self._limit = pixels
        self._free = pixels
        self._turn = Lock()
        self._changed = Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """Wait until `pixels` are free and hold them; a request above the whole budget gets all of it."""
        share = min(pixels, self._limit)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._free >= share)
            self._free -= share
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._changed.notify_all()
