"""What nobody waits for: blobs past their retention, and those of answers that were forgotten on another machine.

    upkeep = Upkeep(engine, home, stores, Retention(masks=…, images=…), clock)
    upkeep.run_until(stop, interval_s=10)       # in a thread of its own: a round may take minutes

A home notes up to which tombstone it has deleted its blobs, in a file named after the database's salt: machines that
share a database each have stores of their own, and each takes out its own part.
"""

import hashlib
import logging
import os
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from records import tombstones
from records.blobs import UndeletedError
from records.engines import explained
from records.quarantine import read_batches
from records.stores import Deleted, Stores
from records.workplace import clear
from resunet.errors import RecordsError

_DAY = timedelta(days=1)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retention:
    """How long blobs are kept."""

    masks: timedelta = timedelta(days=30)
    images: timedelta = timedelta(days=30)


class Upkeep:
    """Deletes what has to go from a home's stores; one round at a time.

    Args:
        clock: tells what is too old.
    """

    def __init__(
        self, engine: Engine, home: Path, stores: Stores, retention: Retention, clock: Callable[[], datetime]
    ) -> None:
        self._engine = engine
        self._home = home
        self._stores = stores
        self._retention = retention
        self._clock = clock
        self._purged: datetime | None = None

    def run(self) -> None:
        """Delete old days, once a day, and what was forgotten since the last round.

        Raises:
            RecordsError: the database does not answer, or a forgotten blob cannot be deleted.
        """
        now = self._clock()
        if self._purged is None or now - self._purged >= _DAY:
            self._purged = now
            self._stores.masks.purge(now - self._retention.masks)
            self._stores.images.purge(now - self._retention.images)
            # A truth is of use with its image.
            self._stores.truths.purge(now - self._retention.images)
            self._clear_what_was_cut_off(now)
        sweep(self._engine, self._home, self._stores)

    def _clear_what_was_cut_off(self, now: datetime) -> None:
        clear(self._home)
        if self._stores.released.batches():
            released = {batch.batch_id for batch in read_batches(self._engine) if batch.state == "released"}
            self._stores.released.drop_unreleased(released, now - _DAY)

    def run_until(self, stop: threading.Event, interval_s: float) -> None:
        """Run rounds until it is stopped; whatever goes wrong, the next one tries again."""
        failing = False
        while True:
            try:
                self.run()
                failing = False
            except UndeletedError as error:
                if not failing:
                    _log.warning("what was forgotten is still there: %s", error)
                failing = True
            except RecordsError as error:
                # Whoever drains tells that the database does not answer.
                _log.debug("what was forgotten meanwhile is not known: %s", error)
            except Exception:
                _log.exception("masks and images that have to go may be there still: this was not foreseen")
            if stop.wait(interval_s):
                return


def sweep(engine: Engine, home: Path, stores: Stores) -> Deleted:
    """Delete a home's blobs of answers that were forgotten since the last sweep.

    Raises:
        RecordsError: the database does not answer, or a blob cannot be deleted.
    """
    deleted, note = Deleted(), None
    while True:
        with explained(engine), engine.connect() as connection:
            if note is None:
                salt = tombstones.salt_of(connection)
                if salt is None:
                    return deleted
                note = home / f"forgotten-{hashlib.sha256(salt).hexdigest()[:16]}.seen"
                seen = _noted(note)
            last, answers = tombstones.answers_after(connection, seen)
        if not answers:
            return deleted
        deleted += stores.delete(answers)
        _note(note, last)
        seen = last


def _noted(path: Path) -> int:
    with suppress(OSError, ValueError):
        return int(path.read_text(encoding="ascii"))
    return 0


def _note(path: Path, seq: int) -> None:
    """Note a number; a note that is lost only costs looking again."""
    part = path.with_name(f"{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        part.write_text(f"{seq}\n", encoding="ascii")
        part.replace(path)
    except OSError as error:
        _log.warning("%s cannot be written: %s", path, error.strerror)
        with suppress(OSError):
            part.unlink()
