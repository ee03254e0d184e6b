"""What callers have used up, in memory that several processes share: a caller has one rate, whoever answers it.

    tables = SharedTables(count=3, processes=4)         # in the owner
    Process(target=work, args=(tables, 2))              # multiprocessing's; the child has the same memory
    requests, megapixels, failures = tables.stores(2)   # of the third process

Nobody waits for another process here, whatever that does: each writes in a table of its own, and reads all of them. Of
a caller a process writes down how many seconds of its rate it has let it take, ever; how many seconds, as far as it
knows, the caller's bucket was full and nothing flowed in; and when it would be full after what it took last. All that
was taken, and the longest of the second, make the moment at which the bucket is full again; it is never before the
latest of the third, which is what is left where a process has forgotten the caller and others have not. So nothing that
was taken is lost, whoever else writes at the same time: of processes that let a caller in at the very same moment each
may count one request that another has no room for.

A table has a fixed number of places, eight to a set. A caller's set is told by a keyed hash of its name, so that nobody
chooses whom to displace; of nine in a set the one that did not ask this process for longest is forgotten. A process
that takes the place of one that died goes on in its table.
"""

import math
import mmap
import os
import secrets
import tempfile
from hashlib import blake2b
from multiprocessing import reduction
from typing import Any, Final, cast

_WAYS: Final = 8
_SETS: Final = 1_250
# Of a place: whose it is (0: nobody's), and in seconds when it would be full, what was taken, how long it was full, and
# when it was asked for.
_MARK, _FULL, _TAKEN, _IDLE, _ASKED = range(5)
_FIELDS: Final = 5
# Others may write while a set is read; who reads it twice and finds the same has seen it as it was.
_READINGS: Final = 8
_OWN: Final = _WAYS * _FIELDS
_TABLE_BYTES: Final = _SETS * _OWN * 8
_KEY_BYTES: Final = 16
_MARK_BYTES: Final = 6  # a float holds it


class SharedTables:
    """The tables of all processes in one piece of memory, 400 KB each. Pickled only on the way to a child process.

    Args:
        count: how many tables each process has.
        processes: how many there are.
    """

    def __init__(self, count: int, processes: int) -> None:
        size = count * processes * _TABLE_BYTES
        self._attach(_memory(size), count, processes, secrets.token_bytes(_KEY_BYTES))

    def _attach(self, descriptor: int, count: int, processes: int, key: bytes) -> None:
        self._descriptor, self._count, self._processes, self._key = descriptor, count, processes, key
        self._memory = mmap.mmap(descriptor, count * processes * _TABLE_BYTES)

    def stores(self, process: int) -> "tuple[SharedStores, ...]":
        """What a process counts in, one a table; there is one process of a number at a time.

        Args:
            process: its number, from 0.
        """
        size = self._processes * _TABLE_BYTES
        parts = [memoryview(self._memory)[at * size : (at + 1) * size].cast("d") for at in range(self._count)]
        return tuple(SharedStores(part, process, self._processes, self._key) for part in parts)

    def __reduce__(self) -> tuple[object, ...]:
        return _attached, (reduction.DupFd(self._descriptor), self._count, self._processes, self._key)

    def __del__(self) -> None:
        # The memory itself stays for as long as somebody has it.
        if (descriptor := getattr(self, "_descriptor", None)) is not None:
            os.close(descriptor)


class SharedStores:
    """One process's way into a table of all; `serving.access.stores.Stores`.

    Args:
        numbers: (_SETS, processes, _WAYS, _FIELDS), flat and shared.
        process: whose places in it are written.
        processes: how many there are.
        key: of the hash, the same in all processes.
    """

    def __init__(self, numbers: "memoryview[float]", process: int, processes: int, key: bytes) -> None:
        self._numbers, self._own, self._set = numbers, process * _OWN, processes * _OWN
        self._key = key

    def full_at(self, caller: str, now: float) -> float | None:
        """As of `Stores`."""
        mark, first = self._find(caller)
        numbers, places = self._places(mark, first)
        self._note_asked(places, first, now)
        return _full_at(numbers, places)

    def take(self, caller: str, now: float, seconds: float, latest: float) -> float | None:
        """As of `Stores`."""
        mark, first = self._find(caller)
        numbers, places = self._places(mark, first)
        known = _full_at(numbers, places)
        if known is not None and known > latest:
            self._note_asked(places, first, now)
            return known
        mine = [place for place in places if self._is_own(place)]
        at = first + (mine[0] if mine else self._forget_one(numbers, mark, first))
        full_at = now if known is None else max(known, now)
        # In this order: who sees the later ones sees the earlier ones too.
        self._numbers[at + _IDLE] = full_at - _taken(numbers, places)
        self._numbers[at + _TAKEN] += seconds
        self._numbers[at + _FULL] = full_at + seconds
        self._numbers[at + _ASKED] = now
        return known

    @property
    def remembered(self) -> int:
        """As of `Stores`; by this process."""
        starts = range(self._own, len(self._numbers), self._set)
        return sum(mark != 0 for start in starts for mark in self._numbers[start : start + _OWN : _FIELDS].tolist())

    def _is_own(self, place: int) -> bool:
        return self._own <= place < self._own + _OWN

    def _note_asked(self, places: list[int], first: int, now: float) -> None:
        """Who keeps asking is not forgotten first, though it is refused."""
        for place in places:
            if self._is_own(place):
                self._numbers[first + place + _ASKED] = now

    def _forget_one(self, numbers: list[float], mark: float, first: int) -> int:
        """Make an own place of a set the caller's, with nothing in it, and return which."""
        own = range(self._own, self._own + _OWN, _FIELDS)
        place = min(own, key=lambda at: (numbers[at] != 0, numbers[at + _ASKED]))
        # Nobody's, until all that belongs to it is there.
        empty = ((_MARK, 0.0), (_TAKEN, 0.0), (_IDLE, -math.inf), (_FULL, -math.inf), (_MARK, mark))
        for field, value in empty:
            self._numbers[first + place + field] = value
        return place

    def _find(self, caller: str) -> tuple[float, int]:
        """The mark of a caller, and where its set begins."""
        hashed = blake2b(caller.encode(), digest_size=_MARK_BYTES, key=self._key).digest()
        mark = int.from_bytes(hashed, "big") or 1
        return float(mark), mark % _SETS * self._set

    def _places(self, mark: float, first: int) -> tuple[list[float], list[int]]:
        """The numbers of a set, of all processes, and where in them a caller's begin."""
        numbers = self._read(first)
        for _ in range(_READINGS):
            before, numbers = numbers, self._read(first)
            if before == numbers:
                break
        marks = numbers[_MARK::_FIELDS]
        if mark not in marks:
            return numbers, []
        return numbers, [at * _FIELDS for at, found in enumerate(marks) if found == mark]

    def _read(self, first: int) -> list[float]:
        return cast("list[float]", self._numbers[first : first + self._set].tolist())


def _taken(numbers: list[float], places: list[int]) -> float:
    """Seconds of its rate that all processes have let a caller take."""
    return sum(numbers[place + _TAKEN] for place in places)


def _full_at(numbers: list[float], places: list[int]) -> float | None:
    """When a caller's bucket is full again; None: no process remembers it."""
    if not places:
        return None
    idle = max(numbers[place + _IDLE] for place in places)
    return max(_taken(numbers, places) + idle, *(numbers[place + _FULL] for place in places))


def _attached(descriptor: Any, count: int, processes: int, key: bytes) -> SharedTables:
    tables = SharedTables.__new__(SharedTables)
    tables._attach(descriptor.detach(), count, processes, key)
    return tables


def _memory(size: int) -> int:
    """A descriptor of memory that no name leads to: it is gone with the last process that has it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("resunet-limits")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        # Written, not only sized: what is not there yet could turn out to be missing when it is touched.
        with open(descriptor, "wb", closefd=False) as memory:
            memory.write(bytes(size))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
