"""Reports on a clock: one at a time, whatever becomes of each of them.

    with single(home, "resunet") as lock:
        run_schedule(Reports(command, limit, lock), every=timedelta(hours=1), grace=timedelta(seconds=20))

Each report is a process of its own: its crash, its memory or its hanging cannot take the schedule down, and
it can be stopped half-way and still close its MLflow run. It does not outlive a schedule that is killed (see
`monitoring.lifeline`), and while it may, it holds the schedule's lock, so that no other one starts beside it.
"""

import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from apscheduler.events import EVENT_JOB_MAX_INSTANCES
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from monitoring.lifeline import CLOSING_S, lifeline
from resunet.errors import SettingsError

log = logging.getLogger("monitoring.schedule")

_POLL_S = 0.1
# Exit codes of a report that came to one.
_VERDICTS = (0, 3)


@contextlib.contextmanager
def single(home: Path, model: str) -> Iterator[int]:
    """Hold the lock of a model's schedule; the system frees it when the last process that holds it is gone.

    Yields:
        its file descriptor: a process that inherits it holds the lock too.

    Raises:
        SettingsError: another process holds it, or the folder cannot be written.
    """
    path = home / f"schedule-{quote(model, safe='')}.lock"
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise SettingsError(f"RESUNET_HOME {home} cannot be written: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"a schedule for {model!r} runs already in RESUNET_HOME {home}, or the last report of one that was "
                "killed: stop that one first, or give this one another RESUNET_HOME"
            ) from None
        yield lock
    finally:
        os.close(lock)


class Reports:
    """Runs one report after the other, each as a process, and logs a line about it.

    Args:
        command: of a report that prints one line.
        limit: a report that takes longer is stopped as hung.
        lock: a file descriptor that each report keeps open, as `single` gives it.
    """

    def __init__(self, command: Sequence[str], limit: timedelta, lock: int | None = None) -> None:
        self._command = list(command)
        self._kept_open = () if lock is None else (lock,)
        self._limit_s = limit.total_seconds()
        self._stopping = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._guard = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def run(self) -> int:
        """Run one report and return its exit code: 0, 2 or 3, or something else when it broke."""
        with lifeline() as line:
            return self._run(line)

    def _run(self, line: int) -> int:
        began = time.monotonic()
        with self._guard:
            if self._stopping.is_set():
                return 0
            # A session of its own: Ctrl-C at the terminal reaches the schedule alone, which decides.
            process = self._process = subprocess.Popen(
                self._command,
                stdin=line,
                pass_fds=self._kept_open,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self._idle.clear()
        try:
            try:
                output, errors = process.communicate(timeout=self._limit_s)
                told = _last_line(output if process.returncode in _VERDICTS else errors or output)
            except subprocess.TimeoutExpired:
                _end(process)
                process.communicate()
                told = f"it gave no answer in {self._limit_s:.0f} s and was stopped"
            self._say(process.returncode, told, began)
        finally:
            self._idle.set()
        return process.returncode

    def stop(self, grace_s: float) -> None:
        """Start no other report; let the running one finish within the grace, else stop it."""
        self._stopping.set()
        with self._guard:
            process = self._process
        if process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
        _end(process)
        # For its last line to come before ours.
        self._idle.wait(CLOSING_S)

    def _say(self, code: int, line: str, began: float) -> None:
        seconds = time.monotonic() - began
        if code in _VERDICTS:
            log.log(logging.WARNING if code == 3 else logging.INFO, "%s (%.0f s)", line, seconds)
        elif self._stopping.is_set():
            log.warning("the running report was stopped half-way (%.0f s)", seconds)
        else:
            log.error("no verdict, exit code %d: %s (%.0f s)", code, line or "it said nothing", seconds)


def run_schedule(reports: Reports, *, every: timedelta, grace: timedelta, once: bool = False) -> int:
    """Report now and then every `every`, until SIGTERM or SIGINT; to be called in the main thread.

    Returns:
        0 when it was stopped; with `once` the exit code of the one report.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    log.setLevel(logging.INFO)
    # Its warning about a report that is left out names a Python function: ours, below, says it in words.
    logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)
    # Not an Event: its lock is not for handlers. One that runs while the other, or the wait, holds it never ends.
    asked: list[str] = []
    before = {
        sign: signal.signal(sign, lambda *_: asked.append("by a signal")) for sign in (signal.SIGTERM, signal.SIGINT)
    }
    result: list[int] = []

    def job() -> None:
        try:
            result.append(reports.run())
        finally:
            if once:
                asked.append("after one report")

    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(1)},
        job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None},
        timezone=UTC,
    )
    scheduler.add_job(job, IntervalTrigger(seconds=every.total_seconds()), next_run_time=datetime.now(UTC))
    scheduler.add_listener(
        lambda _: log.warning("the last report is still running: the one due now is left out"),
        EVENT_JOB_MAX_INSTANCES,
    )
    try:
        scheduler.start()
        if not once:
            log.info("a report every %s; stop with SIGTERM or Ctrl-C", every)
        while not asked:
            time.sleep(_POLL_S)
    finally:
        scheduler.shutdown(wait=False)
        reports.stop(0 if once and result else grace.total_seconds())
        for sign, handler in before.items():
            signal.signal(sign, handler)
    if once:
        return result[0] if result else 1
    log.info("stopped")
    return 0


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(CLOSING_S)
    if process.poll() is None:
        process.kill()
        process.wait()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
