"""The inference log: what was answered, kept before the answer leaves, brought to the database afterwards.

    log = InferenceLog.open("postgresql+psycopg://resunet@db/resunet", home=Path("/var/lib/resunet"))
    log.append([PredictionRow(...)])     # on return a killed process loses nothing
    log.count_failure("resunet", "/segment", 503)
    log.close()

`append` writes to the spool below `home/spool` and never waits for the database. The spool is brought to the
disk every 50 ms (so a power loss may cost that much) and drained to the database every half second,
idempotently on the answer (request id, version, route, image and threshold; see `records.rows.answer_id`).
While the database is dead the rows wait, also those of processes that died. Masks go to `home/masks` with their
row, under its `answer_id`, and a share of the images, if asked for, to `home/images`; both are sealed where there is a
key, and deleted after their retention. Counts of failed requests wait in memory and come with the rows.
"""

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from records.drain import Drain
from records.engines import make_engine
from records.failures import FailureCounts
from records.forks import Undivided
from records.images import IN_LINE_BYTES, ImagePolicy
from records.labels import Added, Label, add_label
from records.rows import PredictionRow, answer_of, to_record
from records.sealing import Keyring, open_keyring
from records.settings import RecordsSettings
from records.spool import DEFAULT_MAX_BYTES, Spool
from records.stores import Stores
from records.upkeep import Retention, Upkeep
from records.window import VersionActivity, count_window, read_window, versions_in_window
from resunet.errors import RecordsError

__all__ = [
    "InferenceLog",
    "LogStatus",
    "PredictionRow",
    "VersionActivity",
    "count_window",
    "open_inference_log",
    "read_window",
    "versions_in_window",
]

SYNC_INTERVAL_S = 0.05
DRAIN_INTERVAL_S = 0.5
ADOPT_INTERVAL_S = 30.0
LONGEST_BACKOFF_S = 30.0
UPKEEP_INTERVAL_S = 10.0
_SYNC_RETRY_S = 5.0
# It may be deleting millions of files, and whoever comes next goes on with it.
_KEEPER_WAIT_S = 0.2

_log = logging.getLogger(__name__)
_open_logs: "weakref.WeakSet[InferenceLog]" = weakref.WeakSet()


@dataclass(frozen=True)
class LogStatus:
    """How the log is doing: for a health route or a metric."""

    pending_bytes: int
    drained_rows: int
    last_error: str | None


class InferenceLog:
    """A process's end of the inference log. Thread-safe; a forked child gets a spool segment of its own.

    Args:
        url: of the database; it need not be up.
        home: folder of the spool, the masks and the images, on a local disk, shared by the processes of one machine.
        retention: which masks and images are deleted.
        keep_images: share of the answers whose image is kept, 0 … 1, of those rows that come with one.
        keep_labels: whether true masks are kept beside kept images.
        keyring: seals masks and images from the spool on, if it has a key.
        spool_max_bytes: `append` refuses above it.
        sync_interval_s, drain_interval_s: how long a row may wait for the disk and for the database.
        upkeep_interval_s: how often is looked for what has to be deleted.
        clock: tells which masks and images are too old.

    Raises:
        RecordsError: the URL makes no sense or the home cannot be written.
    """

    def __init__(
        self,
        url: str,
        home: Path,
        *,
        retention: Retention | None = None,
        keep_images: float = 0.0,
        keep_labels: bool = False,
        keyring: Keyring | None = None,
        spool_max_bytes: int = DEFAULT_MAX_BYTES,
        sync_interval_s: float = SYNC_INTERVAL_S,
        drain_interval_s: float = DRAIN_INTERVAL_S,
        upkeep_interval_s: float = UPKEEP_INTERVAL_S,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._keyring = keyring or Keyring()
        self._stores = Stores.of(home, self._keyring)
        self.masks, self.images = self._stores.masks, self._stores.images
        self._policy = ImagePolicy(keep_images)
        self._keep_labels = keep_labels
        self._url = url
        self._home = home
        self._retention = retention or Retention()
        self._spool_max_bytes = spool_max_bytes
        self._sync_interval_s = sync_interval_s
        self._drain_interval_s = drain_interval_s
        self._upkeep_interval_s = upkeep_interval_s
        self._clock = clock
        self._closed = False
        self._engines_of_parents: list[Engine] = []
        self._start_lock = threading.Lock()
        self._start()
        _open_logs.add(self)
        atexit.register(self.close)

    @classmethod
    def open(cls, url: str, home: Path, **options: Any) -> "InferenceLog":
        """Open the log below `home`; options as of the class."""
        return cls(url, home, **options)

    def append(self, rows: Iterable[PredictionRow]) -> None:
        """Keep rows, all or none; on return they survive a killed process, and so do the images that are kept.

        Raises:
            RecordsError: the disk or the spool is full, or the log is closed; then no row was kept.
        """
        self._start_if_forked()
        files: list[str] = []
        try:
            lines = [self._line(row, files) for row in rows]
            if not lines:
                return
            self._spool.append(lines)
        except RecordsError:
            for file in files:
                with suppress(RecordsError):
                    self.images.discard(file)
            raise
        self._unsynced.set()
        self._undrained.set()

    def _line(self, row: PredictionRow, files: list[str]) -> bytes:
        """A row as it goes to the spool; the file of a large image is added to `files`."""
        if row.image is None:
            return to_record(row, self._keyring)
        if not self._policy.share or not self._policy.keeps(answer_of(row), row.status):
            return to_record(replace(row, image=None), self._keyring)
        if len(row.image) <= IN_LINE_BYTES:
            return to_record(row, self._keyring)
        files.append(self.images.receive(answer_of(row), row.image))
        return to_record(replace(row, image=None), self._keyring, files[-1])

    def count_failure(self, model_name: str, path: str, status: int) -> None:
        """Count a request that the server failed, in memory: a process that is killed takes half a second's with it.

        Args:
            path: of the route, a template, so that there are few of them.
            status: 5xx.
        """
        self._start_if_forked()
        self._failures.add(model_name, path, status, self._clock())
        self._undrained.set()

    def label(self, label: Label) -> list[Added]:
        """Write down what an answer was worth; see `records.labels.add_label`."""
        self._start_if_forked()
        kept = self._stores if self._keep_labels else None
        return add_label(self._engine, self.masks, label, self._clock(), kept)

    def drain_now(self) -> int:
        """Bring every spooled row to the database, also those of dead processes, and return how many.

        Raises:
            RecordsError: the log is closed, or the database or the mask store refuses; nothing is lost then.
        """
        if self._closed:
            raise RecordsError("the inference log is closed: open it again to drain it")
        self._start_if_forked()
        return self._drain()

    def status(self) -> LogStatus:
        """Measure what waits and tell the last failure of draining (None once it works again)."""
        self._start_if_forked()
        return LogStatus(self._spool.pending_bytes(), self._drained_rows, self._last_error)

    def close(self, deadline_s: float = 5.0) -> bool:
        """Drain once more, wait for it no longer than the deadline, and stop.

        Returns:
            Whether all of this process's rows are in the database; the others wait in the spool.
        """
        with self._start_lock:
            was_closed, self._closed = self._closed, True
        if self._forked:
            return True  # nothing was appended here, and the parent's spool is not ours to close
        if was_closed:
            return not self._spool.sealed()
        atexit.unregister(self.close)
        _open_logs.discard(self)
        self._stop.set()
        self._unsynced.set()
        self._undrained.set()
        give_up = time.monotonic() + deadline_s
        for thread in (self._drainer, self._syncer):
            thread.join(max(0.0, give_up - time.monotonic()))
        self._keeper.join(_KEEPER_WAIT_S)
        self._spool.close()
        if not self._drainer.is_alive():
            self._engine.dispose()
        return not self._spool.sealed()

    def _start(self) -> None:
        self._engine = make_engine(self._url)
        self._spool = Spool(self._home / "spool", max_bytes=self._spool_max_bytes)
        self._round = Drain(self._engine, self._spool, self._stores)
        self._failures = FailureCounts()
        self._drain_lock = threading.Lock()
        self._stop = threading.Event()
        self._unsynced = threading.Event()
        self._undrained = threading.Event()
        self._undrained.set()  # what dead processes left
        self._drained_rows = 0
        self._last_error: str | None = None
        self._syncer = threading.Thread(target=self._sync_loop, name="inference-log-sync", daemon=True)
        self._drainer = threading.Thread(target=self._drain_loop, name="inference-log-drain", daemon=True)
        upkeep = Upkeep(self._engine, self._home, self._stores, self._retention, self._clock)
        rounds = (self._stop, self._upkeep_interval_s)
        self._keeper = threading.Thread(target=upkeep.run_until, args=rounds, name="inference-log-upkeep", daemon=True)
        for thread in (self._syncer, self._drainer, self._keeper):
            thread.start()
        self._forked = False

    def _start_if_forked(self) -> None:
        if self._forked:
            with self._start_lock:
                if self._forked and not self._closed:
                    self._start()

    def _after_fork(self) -> None:
        # Runs in the child's only thread; any lock may have been held by a thread that is not here.
        self._start_lock = threading.Lock()
        self._spool.abandon()
        # Kept for ever: to close an inherited connection would disturb the parent's.
        self._engines_of_parents.append(self._engine)
        self._forked = True

    def _sync_loop(self) -> None:
        while not self._stop.is_set():
            self._unsynced.wait()
            self._stop.wait(self._sync_interval_s)
            self._unsynced.clear()
            try:
                self._spool.sync()
            except OSError as error:
                _log.warning("the spool could not be brought to the disk: %s", error.strerror)
                self._unsynced.set()
                self._stop.wait(_SYNC_RETRY_S)

    def _drain_loop(self) -> None:
        failures, alone = 0, Undivided()
        while not self._stop.is_set():
            self._undrained.wait(ADOPT_INTERVAL_S)
            self._stop.wait(min(self._drain_interval_s * 2**failures, LONGEST_BACKOFF_S))
            if self._stop.is_set():
                break
            # Cleared before draining: a row that comes meanwhile asks for another round.
            self._undrained.clear()
            with alone:
                drained = self._drained(first_failure=not failures)
                # Also where rows are not drained: a disk that is full fails requests. Of a database that is back, at
                # once.
                self._failures.try_flush(self._engine, at_once=drained and failures > 0)
            if drained:
                failures = 0
            else:
                failures = min(failures + 1, 16)
                self._undrained.set()
        # First of all: rows that are left outlive the process.
        with alone:
            self._failures.try_flush(self._engine, at_once=True)
            self._drained(first_failure=not failures)

    def _drained(self, first_failure: bool) -> bool:
        """Drain as the background does it: whatever goes wrong, the thread lives on and the rows wait."""
        try:
            self._drain()
        except RecordsError as error:
            if first_failure:
                _log.warning("predictions wait in the spool: %s", error)
            return False
        except Exception:
            _log.exception("predictions wait in the spool: draining failed in a way that was not foreseen")
            return False
        if not first_failure:
            _log.warning("predictions are drained again")
        return True

    def _drain(self) -> int:
        with self._drain_lock:
            try:
                rows = self._round.run()
            except RecordsError as error:
                self._last_error = str(error)
                raise
            self._drained_rows += rows
            self._last_error = None
            return rows


def open_inference_log(settings: RecordsSettings) -> InferenceLog | None:
    """Open the log that the settings ask for; None when `RESUNET_INFERENCE_LOG` is unset."""
    if settings.inference_log is None:
        return None
    return InferenceLog.open(
        settings.inference_log,
        settings.home,
        retention=Retention.of(settings),
        keep_images=settings.keep_images,
        keep_labels=settings.keep_labels,
        keyring=open_keyring(settings),
        spool_max_bytes=settings.spool_max_mb * 2**20,
    )


def _forget_parents() -> None:
    for log in list(_open_logs):
        log._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents)
