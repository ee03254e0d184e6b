"""Commands as processes of their own: their crash, their memory or their hanging takes nothing else down.

    commands = Commands(lock)
    ran = commands.run(task, held)          # in any thread
    commands.stop(20.0)                     # in another one: no more of them, and the running ones end

A command does not outlive a schedule that is killed (see `monitoring.lifeline`), and while it may, it holds the
schedule's lock, so that no other one starts beside it.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from monitoring.jobs.job import Ran, Task
from monitoring.lifeline import CLOSING_S, lifeline

log = logging.getLogger("monitoring.schedule")

_LOOK_S: Final = 0.5


class Commands:
    """Runs commands, and logs a line about each.

    Args:
        lock: a file descriptor that each command keeps open, as `monitoring.schedule.single` gives it.
        python: what is written before a task's command.
    """

    def __init__(self, lock: int | None = None, python: Sequence[str] = (sys.executable, "-m")) -> None:
        self._kept_open = () if lock is None else (lock,)
        self._python = tuple(python)
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._running: set[subprocess.Popen[str]] = set()

    def run(self, task: Task, held: Callable[[], bool]) -> Ran:
        """Run one, until it ends, hangs, or loses its lease.

        Args:
            held: whether the lease is still this schedule's.
        """
        began = time.monotonic()
        with lifeline() as line:
            with self._changed:
                if self._stopping.is_set():
                    return Ran(1, "", stopped=True)
                process = self._start(task, line)
                self._running.add(process)
            try:
                ran = self._watch(process, task, held, began)
                self._say(task, ran, time.monotonic() - began)
            finally:
                end(process)
                with self._changed:
                    self._running.discard(process)
                    self._changed.notify_all()
        return ran

    def stop(self, grace_s: float) -> None:
        """Start no other command; let those that run finish within the grace, else stop them."""
        self._stopping.set()
        with self._changed:
            self._changed.wait_for(lambda: not self._running, grace_s)
            left = tuple(self._running)
        for process in left:
            process.terminate()
        for process in left:
            end(process)
        # For their last lines to come before ours.
        with self._changed:
            self._changed.wait_for(lambda: not self._running, CLOSING_S)

    def _start(self, task: Task, line: int) -> "subprocess.Popen[str]":
        # A session of its own: Ctrl-C at the terminal reaches the schedule alone, which decides.
        return subprocess.Popen(
            [*self._python, *task.command],
            stdin=line,
            pass_fds=self._kept_open,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            env={**os.environ, **task.environment},
        )

    def _watch(self, process: "subprocess.Popen[str]", task: Task, held: Callable[[], bool], began: float) -> Ran:
        ends = began + task.limit.total_seconds()
        while True:
            try:
                output, errors = process.communicate(timeout=max(0.0, min(_LOOK_S, ends - time.monotonic())))
            except subprocess.TimeoutExpired:
                if not held():
                    return self._cut(process, "its lease was lost, and it was stopped", lost=True)
                if time.monotonic() >= ends:
                    return self._cut(
                        process, f"it gave no answer in {task.limit.total_seconds():.0f} s and was stopped"
                    )
                continue
            code = process.returncode
            stopped = self._stopping.is_set() and code not in (0, 3)
            return Ran(code, _last_line(output if code in (0, 3) else errors or output), stopped=stopped)

    def _cut(self, process: "subprocess.Popen[str]", why: str, lost: bool = False) -> Ran:
        end(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_LOOK_S)
        return Ran(process.returncode, why, stopped=self._stopping.is_set(), lost=lost)

    def _say(self, task: Task, ran: Ran, seconds: float) -> None:
        if ran.answered:
            level = logging.WARNING if ran.code == 3 else logging.INFO
            log.log(level, "%s: %s (%.0f s)", task.title, ran.line or "done", seconds)
        elif ran.stopped:
            log.warning("%s: it was running and was stopped half-way (%.0f s)", task.title, seconds)
        else:
            log.error("%s: %s (%.0f s)", task.title, ran.outcome, seconds)


def end(process: "subprocess.Popen[str]") -> None:
    """Stop a process, politely at first; one that has ended is left alone."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(CLOSING_S)
    if process.poll() is None:
        # With all that it started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
