"""What nobody waits for: blobs that are too old or too many, and those of answers that were forgotten elsewhere.

    upkeep = Upkeep(engine, home, stores, Retention(masks=…, images=…), clock)
    upkeep.run_until(stop, interval_s=10)       # in a thread of its own: a round may take minutes

A home notes up to which tombstone it has deleted its blobs, in a file named after the database's salt: machines that
share a database each have stores of their own, and each takes out its own part. A second file notes
how far the sums were looked at.
"""

import hashlib
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import Engine

from records import tombstones
from records.blobs import UndeletedError
from records.engines import explained
from records.forks import Undivided
from records.quarantine import read_batches
from records.settings import RecordsSettings
from records.sketch_forgotten import drop_outdated, may_drop
from records.stores import Deleted, Stores
from records.trim import trim
from records.workplace import clear
from resunet.errors import RecordsError

_DAY = timedelta(days=1)
# To measure a million files takes some seconds.
_MEASURE_EVERY = timedelta(minutes=10)
# A file that is younger may have a row, or a label, that is on its way.
_SAFE = timedelta(hours=1)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retention:
    """How long blobs are kept.

    Attributes:
        masks, images: longer than this none is.
        masks_bytes, images_bytes: of more than this the oldest go; None: there is no limit. True masks count as images.
    """

    masks: timedelta = timedelta(days=30)
    images: timedelta = timedelta(days=30)
    masks_bytes: int | None = None
    images_bytes: int | None = None

    @classmethod
    def of(cls, settings: RecordsSettings) -> "Retention":
        """As the environment has it."""
        return cls(
            masks=timedelta(days=settings.mask_retention_days),
            images=timedelta(days=settings.image_retention_days),
            masks_bytes=settings.masks_max_mb * 2**20 or None,
            images_bytes=settings.images_max_mb * 2**20 or None,
        )


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
        self._measured: datetime | None = None

    def run(self) -> tuple[str, ...]:
        """Delete old days once a day, what is too much every ten minutes, and what was forgotten since the last round.

        Returns:
            sentences about what was too much.

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
        told: tuple[str, ...] = ()
        if self._measured is None or now - self._measured >= _MEASURE_EVERY:
            self._measured = now
            with suppress(Timeout), FileLock(self._home / "trim.lock", timeout=0):
                # Each would delete what is too much for all of them.
                told = self._trim(now)
        sweep(self._engine, self._home, self._stores)
        if may_drop(self._engine):
            for answers in _forgotten_since(self._engine, self._home, "summed"):
                # What an earlier release forgot is in the sums yet.
                drop_outdated(self._engine, answers)
        return told

    def _trim(self, now: datetime) -> tuple[str, ...]:
        """Delete what is too much of masks, and of images with their truths."""
        stores, told = self._stores, []
        for kind, parts, most, variable in (
            ("masks", (stores.masks,), self._retention.masks_bytes, "RESUNET_MASKS_MAX_MB"),
            ("images", (stores.images, *stores.truths.parts), self._retention.images_bytes, "RESUNET_IMAGES_MAX_MB"),
        ):
            if most is None:
                continue
            done = trim(parts, most, now - _SAFE)
            if done.blobs:
                told.append(f"the oldest {done.blobs} {kind} ({_mb(done.size)}) are deleted: {variable} is {_mb(most)}")
            if done.left > most:
                told.append(
                    f"{kind} take {_mb(done.left)}, and {variable} is {_mb(most)}: what is younger than an hour stays, "
                    "and what cannot be deleted"
                )
        return tuple(told)

    def _clear_what_was_cut_off(self, now: datetime) -> None:
        clear(self._home)
        if self._stores.released.batches():
            # Of a batch that this database does not know another one may have the release.
            with self._stores.released.alone():
                unreleased = {batch.batch_id for batch in read_batches(self._engine) if batch.state != "released"}
                self._stores.released.drop_unreleased(unreleased, now - _DAY)

    def run_until(self, stop: threading.Event, interval_s: float) -> None:
        """Run rounds until it is stopped, none while the process forks; what goes wrong the next one tries again."""
        failing, alone = False, Undivided()
        while True:
            try:
                with alone:
                    told = self.run()
                for line in told:
                    _log.warning("%s", line)
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
    deleted = Deleted()
    for answers in _forgotten_since(engine, home, "seen"):
        deleted += stores.delete(answers)
    return deleted


def _forgotten_since(engine: Engine, home: Path, what: str) -> Iterator[list[str]]:
    """Answers that were forgotten since they were last asked for, in parts; one is noted when the next is asked for."""
    note = None
    while True:
        with explained(engine), engine.connect() as connection:
            if note is None:
                salt = tombstones.salt_of(connection)
                if salt is None:
                    return
                note = home / f"forgotten-{hashlib.sha256(salt).hexdigest()[:16]}.{what}"
                seen = _noted(note)
            last, answers = tombstones.answers_after(connection, seen)
        if not answers:
            return
        yield answers
        _note(note, last)
        seen = last


def _mb(size: int) -> str:
    return f"{size / 2**20:,.1f} MB"


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
