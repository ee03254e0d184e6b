"""Background work that no fork divides: SQLite has locks of its own; a child that inherits one closed waits for ever.

    alone = Undivided()             # of a thread
    with alone:                     # a fork that another thread asks for begins after it
        …

A fork waits LONGEST_S at most, all work together: a database that hangs holds it up no longer, and its child may then
wait for that database in vain.
"""

import os
import threading
import time
import weakref
from typing import Any, Final

LONGEST_S: Final = 2.0

_everywhere: "weakref.WeakSet[Undivided]" = weakref.WeakSet()
_by_this_thread = threading.local()


class Undivided:
    """What one thread does between two moments at which the process may be forked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _everywhere.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: Any) -> None:
        self._lock.release()


def _before() -> None:
    ends = time.monotonic() + LONGEST_S
    held = _by_this_thread.held = list[threading.Lock]()
    for work in list(_everywhere):
        if work._lock.acquire(timeout=max(0.0, ends - time.monotonic())):
            held.append(work._lock)


def _after_in_parent() -> None:
    for lock in _by_this_thread.held:
        lock.release()


def _after_in_child() -> None:
    # Whoever held them is not here.
    for work in list(_everywhere):
        work._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
