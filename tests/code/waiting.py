"""Waiting for something to come about, and not for ever."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(look: Callable[[], T], told: Callable[[], str] = lambda: "", seconds: float = 60.0, every: float = 0.02) -> T:
    """Look until there is something.

    Args:
        look: what it gives is false until then.
        told: what the failure says.
        seconds: the deadline.
        every: seconds between two looks.

    Returns:
        what was found.
    """
    ends = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < ends, f"it did not come about in {seconds:.0f} s {told()}"
        time.sleep(every)
    return found
