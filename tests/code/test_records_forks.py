"""A fork comes before background work or after it, and waits for none that hangs."""

import multiprocessing
import threading
import time

import pytest

from records import forks
from records.forks import Undivided

DEADLINE_S = 60


class Work:
    """A thread that is at its work until it is let go."""

    def __init__(self) -> None:
        self.at_it, self.let_go, self.done = threading.Event(), threading.Event(), False
        self.alone = Undivided()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self.at_it.wait(DEADLINE_S)

    def _run(self) -> None:
        with self.alone:
            self.at_it.set()
            self.let_go.wait(DEADLINE_S)
            self.done = True

    def end(self) -> None:
        self.let_go.set()
        self._thread.join(DEADLINE_S)


def forked(work: Work) -> int | None:
    """Whether a child finds the work done, and can do it itself: its exit code."""

    def child() -> None:
        with work.alone:
            raise SystemExit(0 if work.done else 3)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(DEADLINE_S)
    return process.exitcode


def test_a_fork_begins_after_the_work_that_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "LONGEST_S", DEADLINE_S)
    work = Work()
    found = list[int | None]()
    forking = threading.Thread(target=lambda: found.append(forked(work)))
    forking.start()
    time.sleep(0.05)  # it may have begun by now, were it not for the work
    work.end()
    forking.join(DEADLINE_S)
    assert found == [0]
    # The parent goes on with its own.
    with work.alone:
        pass


def test_a_fork_does_not_wait_for_work_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "LONGEST_S", 0.05)
    work = Work()
    try:
        assert forked(work) == 3
    finally:
        work.end()
