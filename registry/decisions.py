"""A decision on a stage: one at a time on a machine, and written down before anything moves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import Engine

from records import audit
from registry.gates import Verdict, blocking
from registry.history import REFUSED
from registry.settings import RegistrySettings
from resunet.errors import RefusedError, SettingsError

LOCK_FILE = "promotion.lock"
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of the commands."""
    return datetime.now(UTC)


@contextmanager
def alone(settings: RegistrySettings) -> Iterator[None]:
    """Hold the lock that all commands of one machine share.

    Raises:
        SettingsError: another command did not end in time, or the lock's folder cannot be written.
    """
    path = settings.home / LOCK_FILE
    lock = FileLock(path, timeout=settings.lock_seconds)
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise SettingsError(
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

    def write(self, action: str, digest: str | None = None, verdicts: Sequence[Verdict] = (), reason: str = "") -> None:
        """Add the row; `reason` replaces the caller's where it is given."""
        gates: Mapping[str, Any] = {
            verdict.gate: {"outcome": verdict.outcome, "evidence": verdict.evidence} for verdict in verdicts
        }
        audit.append(
            self.engine,
            action=action,
            actor=self.actor,
            model_name=self.name,
            version=self.version,
            from_stage=self.from_stage,
            to_stage=self.to_stage,
            digest=digest or None,
            gates=gates,
            reason=reason or self.reason,
            when=self.clock(),
        )

    def check(self, digest: str, verdicts: Sequence[Verdict]) -> None:
        """Go on only if nothing blocks.

        Raises:
            RefusedError: a gate blocks; the refusal is on record by then.
        """
        against = blocking(verdicts)
        if not against:
            return
        self.write(REFUSED, digest, verdicts)
        told = "\n".join(
            f"  {verdict.gate}: {verdict.outcome}: {verdict.evidence}\n    what to do: {verdict.advice}"
            for verdict in against
        )
        raise RefusedError(f"version {self.version} of {self.name} may not go to {self.to_stage}\n{told}")
