"""A decision on a stage: one at a time, and written down before anything moves."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import Engine

from records import audit
from records.database import held
from registry.settings import RegistrySettings
from resunet.errors import RecordsError, SettingsError

LOCK_FILE = "promotion.lock"
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of the commands."""
    return datetime.now(UTC)


@contextmanager
def alone(settings: RegistrySettings, records: Engine) -> Iterator[None]:
    """Hold the lock that all who decide share: of one machine with SQLite, of one database with PostgreSQL.

    Raises:
        RecordsError: another decision did not end in time.
        SettingsError: the lock's folder cannot be written.
    """
    if records.dialect.name == "postgresql":
        with held(records, settings.lock_seconds):
            yield
        return
    path = settings.home / LOCK_FILE
    lock = FileLock(path, timeout=settings.lock_seconds)
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise RecordsError(
            f"another change of stage has held {path} for {settings.lock_seconds:.0f} s; wait for it to end"
        ) from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be locked: {error.strerror}; set RESUNET_HOME") from error
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class Decision:
    """All of an audit row that is known before the gates are asked."""

    engine: Engine
    name: str
    version: str
    from_stage: str
    to_stage: str
    actor: str
    reason: str
    clock: Clock

    def write(self, action: str, digest: str = "", gates: Mapping[str, Any] | None = None, reason: str = "") -> None:
        """Add the row.

        Args:
            gates: what the gates said, as `Judgement.record` gives it.
            reason: replaces the caller's where it is given.
        """
        audit.append(
            self.engine,
            action=action,
            actor=self.actor,
            model_name=self.name,
            version=self.version,
            from_stage=self.from_stage,
            to_stage=self.to_stage,
            digest=digest or None,
            gates=gates or {},
            reason=reason or self.reason,
            when=self.clock(),
        )

    def about(self, version: str, from_stage: str, to_stage: str) -> "Decision":
        """The same decision's row on another version, which it moves too."""
        return replace(self, version=version, from_stage=from_stage, to_stage=to_stage, reason="")
