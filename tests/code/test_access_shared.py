"""What processes count together: one rate a caller, nobody who waits for another process, bounded memory."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from access_scene import HandClock

from serving.access.limits import COUNTED, Buckets, Limits, Rate
from serving.access.shared import SharedTables
from serving.access.stores import OwnStores, Stores

SPAWN = multiprocessing.get_context("spawn")
DEADLINE_S = 60
# Nothing flows back while a test lasts.
ONCE = Rate(1e-9, burst=1000)


def _take(pipe: Connection, tables: SharedTables, process: int, requests: int) -> None:
    buckets = Buckets(ONCE, stores=tables.stores(process)[0])
    pipe.send("here")
    pipe.recv()
    pipe.send(sum(buckets.take("caller") == 0 for _ in range(requests)))


class _Stopped(float):
    """A cost at which a process stands still, just when it is being taken."""

    def __truediv__(self, rate: float) -> float:
        os.kill(os.getpid(), signal.SIGSTOP)
        return float(self) / rate


def _stand_still(pipe: Connection, tables: SharedTables) -> None:
    buckets = Buckets(ONCE, stores=tables.stores(0)[0])
    buckets.take("caller")
    pipe.send("here")
    buckets.take("caller", _Stopped(1))


class Child:
    """A process that has the tables."""

    def __init__(self, target: Callable[..., None], *given: object):
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=target, args=(theirs, *given), daemon=True)
        self.process.start()
        theirs.close()

    def hear(self) -> Any:
        assert self.pipe.poll(DEADLINE_S)
        return self.pipe.recv()

    def end(self) -> int | None:
        self.process.join(DEADLINE_S)
        return self.process.exitcode


@pytest.fixture
def tables() -> SharedTables:
    return SharedTables(COUNTED, processes=2)


@pytest.fixture(params=["own", "shared"])
def stores(request: pytest.FixtureRequest, tables: SharedTables) -> Iterator[Stores]:
    yield OwnStores(100) if request.param == "own" else tables.stores(1)[1]


def test_processes_get_together_what_one_would_get(tables: SharedTables) -> None:
    children = [Child(_take, tables, process, 800) for process in range(2)]
    assert [child.hear() for child in children] == ["here"] * 2
    for child in children:
        child.pipe.send("go")
    got = [child.hear() for child in children]
    assert [child.end() for child in children] == [0, 0]
    # For the last one there may have been two at the very same moment.
    assert 1000 <= sum(got) <= 1001


def test_what_a_process_has_used_up_outlives_it(tables: SharedTables) -> None:
    child = Child(_take, tables, 0, 1500)
    child.hear()
    child.pipe.send("go")
    assert child.hear() == 1000 and child.end() == 0
    # Neither of the one in its place nor of another one.
    assert all(Buckets(ONCE, stores=tables.stores(process)[0]).take("caller") > 0 for process in range(2))


def test_nobody_waits_for_a_process_that_stands_still(tables: SharedTables) -> None:
    child = Child(_stand_still, tables)
    try:
        assert child.hear() == "here"
        buckets = Buckets(ONCE, stores=tables.stores(1)[0])
        # What it had let in before counts.
        assert sum(buckets.take("caller") == 0 for _ in range(1500)) == 999
    finally:
        child.process.kill()
    assert child.end() == -signal.SIGKILL


class Interrupted(float):
    """A cost that lets other threads run just while it is taken."""

    def __truediv__(self, rate: float) -> float:
        time.sleep(0)
        return float(self) / rate


def test_threads_get_together_what_one_would_get(stores: Stores) -> None:
    buckets, start, got = Buckets(ONCE, stores=stores), threading.Barrier(8), [0] * 8

    def ask(place: int) -> None:
        start.wait(DEADLINE_S)
        got[place] = sum(buckets.take("caller", Interrupted(1)) == 0 for _ in range(400))

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert sum(got) == 1000


def test_callers_and_tables_are_told_apart(tables: SharedTables) -> None:
    clock = HandClock()
    limits = Limits(Rate(1, burst=2), Rate(1, burst=4), Rate(1, burst=1), clock, stores=tables.stores(0))
    assert [limits.request("ada") for _ in range(3)] == [0, 0, pytest.approx(1)]
    assert limits.request("bob") == 0 and limits.failure("ada") == 0
    assert limits.pixels("ada", 10_000_000) == 0 and limits.pixels("bob", 1) == 0
    assert limits.request("ada") == pytest.approx(7)
    clock.seconds += 7
    assert limits.request("ada") == 0
    assert [one.remembered for one in tables.stores(0)] == [2, 2, 1]


def test_a_flood_of_callers_takes_no_memory_and_displaces_nobody_who_keeps_asking(tables: SharedTables) -> None:
    clock = HandClock()
    first, second, stores = *tables.stores(0)[:2], tables.stores(0)[2]
    buckets = Buckets(Rate(0.001, burst=1), clock, stores)
    assert buckets.take("busy") == 0
    for number in range(20_000):
        clock.seconds += 1e-4
        assert buckets.take(f"caller {number}") == 0
        if number % 100 == 0:
            assert buckets.take("busy") > 0
    assert 8_000 < stores.remembered <= 10_000
    assert buckets.take("caller 19999") > 0
    assert first.remembered == second.remembered == 0


def test_a_debt_outlives_the_process_that_forgets_it(tables: SharedTables) -> None:
    """A process that let a caller in for an hour, and meets too many others, takes nothing from what others know."""
    clock = HandClock()
    before, now = (Buckets(Rate(1, burst=2), clock, tables.stores(process)[0]) for process in range(2))
    for _ in range(3600):
        clock.seconds += 1
        assert before.take("caller") == 0
    assert now.take("caller", 60) == 0
    for number in range(30_000):
        before.take(f"another {number}")
    # At its own word it would be let in at once.
    assert now.take("caller") == pytest.approx(60) and before.take("caller") == pytest.approx(60)
    clock.seconds += 60
    assert before.take("caller") == 0 and now.take("caller") == pytest.approx(1)


class Torn:
    """Memory in whose reading somebody else writes, between one number and the next."""

    def __init__(self, memory: "memoryview[float]", at: int, then: Callable[[], object]) -> None:
        self.memory, self.at, self.then = memory, at, then

    def __getitem__(self, place: Any) -> Any:
        return self if isinstance(place, slice) and self._of(place) else self.memory[place]

    def _of(self, place: slice) -> bool:
        self.place = place
        return True

    def __setitem__(self, place: int, value: float) -> None:
        self.memory[place] = value

    def tolist(self) -> list[float]:
        read = list[float]()
        for offset, place in enumerate(range(self.place.start, self.place.stop)):
            if offset == self.at:
                self.at = -1
                self.then()
            read.append(self.memory[place])
        return read


@pytest.mark.parametrize("at", range(80))
def test_who_is_read_while_another_process_forgets_and_writes_pays_for_itself_alone(
    tables: SharedTables, at: int
) -> None:
    clock = HandClock()
    rate, here, there = Rate(1, burst=3), tables.stores(0)[0], tables.stores(1)[0]
    mine, other = Buckets(rate, clock, here), Buckets(rate, clock, there)
    for _ in range(500):
        clock.seconds += 2
        assert mine.take("caller") == 0
    assert other.take("caller") == 0
    # All in the caller's set, so that it is forgotten there, and comes back.
    first = there._find("caller")[1]
    names = (f"another {number}" for number in range(10**6))
    same = list(islice((name for name in names if there._find(name)[1] == first), 8))

    def meanwhile() -> None:
        for name in same:
            clock.seconds += 1e-3
            other.take(name)
        other.take("caller")

    here._numbers = Torn(here._numbers, at, meanwhile)  # type: ignore[assignment]
    full_at = here.full_at("caller", clock.seconds)
    # Two at most were taken just now.
    assert full_at is not None and full_at <= clock.seconds + 2
    mine.take("caller")
    assert mine.wait("caller") <= 1 >= other.wait("caller")


def test_who_is_not_remembered_is_not_made_so_by_asking(stores: Stores) -> None:
    buckets = Buckets(Rate(1, burst=1), stores=stores)
    assert [buckets.wait(f"caller {number}") for number in range(50)] == [0] * 50
    assert stores.remembered == 0


def test_memory_is_given_back(tables: SharedTables) -> None:
    held = len(list(Path("/dev/fd").iterdir()))
    for _ in range(20):
        SharedTables(1, 1)
    assert len(list(Path("/dev/fd").iterdir())) <= held
