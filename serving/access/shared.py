"""What callers have used up, in memory that several processes share: a caller has one rate, whoever answers it.

    tables = SharedTables(count=3)              # in the owner
    Process(target=work, args=(tables,))        # multiprocessing's; the child has the same memory
    tables.stores[0].put("caller", 4.5, now)

A table has a fixed number of places, eight to a set; a caller's set is told by a keyed hash of its name, so that nobody
chooses whom to displace, and of nine in a set the one that was not put for longest is forgotten. The lock is one of the
kernel's on the memory itself: of a process that is killed it goes away, and what was half written is a count of one
caller. Its holder makes no call that waits.
"""

import fcntl
import mmap
import os
import secrets
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from multiprocessing import reduction
from typing import Any, Final

_WAYS: Final = 8
# Twice as many places as callers that a process remembers by itself: sets fill unevenly.
_SETS: Final = 2_500
# Hash, what was in store, when that was so; a place that was never used is all zeros.
_PLACE: Final = struct.Struct("=16sdd")
_TABLE_BYTES: Final = _SETS * _WAYS * _PLACE.size
_KEY_BYTES: Final = 16
_EMPTY: Final = bytes(_KEY_BYTES)


class SharedTables:
    """Several tables in one piece of memory, about 640 KB each. Pickled only on the way to a child process.

    Args:
        count: how many tables.

    Attributes:
        stores: one a table.
    """

    def __init__(self, count: int) -> None:
        self._attach(_memory(count * _TABLE_BYTES), count, secrets.token_bytes(_KEY_BYTES))

    def _attach(self, descriptor: int, count: int, key: bytes) -> None:
        self._descriptor, self._count, self._key = descriptor, count, key
        memory = mmap.mmap(descriptor, count * _TABLE_BYTES)
        self.stores = tuple(SharedStores(descriptor, memory, number, key) for number in range(count))

    def __reduce__(self) -> tuple[object, ...]:
        return _attached, (reduction.DupFd(self._descriptor), self._count, self._key)


class SharedStores:
    """One table; `serving.access.stores.Stores`, but that which caller is forgotten is found in its set alone."""

    def __init__(self, descriptor: int, memory: mmap.mmap, number: int, key: bytes) -> None:
        self._descriptor, self._memory, self._key = descriptor, memory, key
        self._number, self._start = number, number * _TABLE_BYTES
        # The kernel's locks are a process's: they keep out no other thread.
        self._lock = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Against other threads and processes."""
        with self._lock:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, self._number)
            try:
                yield
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self._number)

    def get(self, caller: str) -> tuple[float, float] | None:
        """As of `Stores`."""
        mark = self._mark(caller)
        for place in self._set(mark):
            found, store, then = _PLACE.unpack_from(self._memory, place)
            if found == mark:
                return store, then
        return None

    def put(self, caller: str, store: float, then: float) -> None:
        """As of `Stores`."""
        mark = self._mark(caller)
        best, oldest = -1, float("inf")
        for place in self._set(mark):
            found, _, seen = _PLACE.unpack_from(self._memory, place)
            if found == mark:
                best = place
                break
            age = float("-inf") if found == _EMPTY else seen
            if best < 0 or age < oldest:
                best, oldest = place, age
        _PLACE.pack_into(self._memory, best, mark, store, then)

    @property
    def remembered(self) -> int:
        """As of `Stores`."""
        table = self._memory[self._start : self._start + _TABLE_BYTES]
        return sum(mark != _EMPTY for mark, _, _ in _PLACE.iter_unpack(table))

    def _mark(self, caller: str) -> bytes:
        return blake2b(caller.encode(), digest_size=_KEY_BYTES, key=self._key).digest()

    def _set(self, mark: bytes) -> range:
        first = self._start + int.from_bytes(mark[:4], "big") % _SETS * _WAYS * _PLACE.size
        return range(first, first + _WAYS * _PLACE.size, _PLACE.size)


def _attached(descriptor: Any, count: int, key: bytes) -> SharedTables:
    tables = SharedTables.__new__(SharedTables)
    tables._attach(descriptor.detach(), count, key)
    return tables


def _memory(size: int) -> int:
    """A descriptor of memory that no name leads to: it is gone with the last process that has it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("resunet-limits")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    # Written, not only sized: what is not there yet could turn out to be missing when it is touched.
    with open(descriptor, "wb", closefd=False) as memory:
        memory.write(bytes(size))
    return descriptor
