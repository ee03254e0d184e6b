"""The one file that a rollout lives in: whole or as it was before, whenever a process is killed.

    file = RolloutFile.of_home(home)
    kept = file.read()                        # Kept(None, None) where there is none
    with file.held():                         # others wait
        kept = file.read()
        move = abort(kept.rollout, now, reason)
        file.write(Kept(move.rollout, kept.evidence))

Only its owner may read it (mode 0600).
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from filelock import FileLock, Timeout

from serving.rollout.evidence import Evidence
from serving.rollout.state import Rollout, RolloutError

_FORMAT: Final = 1
_MODE: Final = 0o600


class Kept(NamedTuple):
    """What the file holds.

    Attributes:
        rollout: None: there was never one.
        evidence: as it was when it was last written; None: nothing.
        clean: whether the process that wrote it was about to end, and said so.
    """

    rollout: Rollout | None
    evidence: Evidence | None
    clean: bool = False


class RolloutFile:
    """The state on disk. Its folder is made when needed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_home(cls, home: Path) -> "RolloutFile":
        """That of the gateway that has this RESUNET_HOME."""
        return cls(home / "gateway" / "rollout.json")

    def read(self) -> Kept:
        """What was written last.

        Raises:
            RolloutError: it cannot be read, is damaged, or of a newer release.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return Kept(None, None, clean=True)
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable(f"cannot be read ({type(error).__name__})") from error
        try:
            content: dict[str, Any] = json.loads(text)
            written = content["format"]
            if written != _FORMAT:
                raise self._unusable(f"is of format {written}, and this release reads {_FORMAT}")
            rollout, evidence = content["rollout"], content["evidence"]
            return Kept(
                None if rollout is None else Rollout.from_json(rollout),
                None if evidence is None else Evidence.from_json(evidence),
                bool(content.get("clean", True)),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise self._unusable(f"is damaged ({type(error).__name__})") from error

    def write(self, kept: Kept) -> None:
        """Replace what is there.

        Raises:
            RolloutError: the disk does not take it; what was there before still is.
        """
        content = {
            "format": _FORMAT,
            "rollout": None if kept.rollout is None else kept.rollout.to_json(),
            "evidence": None if kept.evidence is None else kept.evidence.to_json(),
            "clean": kept.clean,
        }
        part = self.path.with_name(f"{self.path.name}.part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # What a killed process left may have any mode.
            part.unlink(missing_ok=True)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "w", encoding="utf-8") as stream:
                json.dump(content, stream, separators=(",", ":"), allow_nan=False)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise RolloutError(
                f"{self.path} cannot be written ({error.strerror}); free some space or mend it"
            ) from error

    @contextmanager
    def held(self, seconds: float = 10.0) -> Iterator[None]:
        """Keep other processes from reading, changing and writing at the same time.

        Raises:
            RolloutError: another one holds it for longer than `seconds`.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Not of one thread: whoever ends the process lets go of what another thread took.
            lock = self.path.with_name(f"{self.path.name}.lock")
            with FileLock(lock, timeout=seconds, mode=_MODE, thread_local=False):
                yield
        except Timeout as error:
            raise RolloutError(f"another process has held {self.path} for {seconds:g} s: wait for it to end") from error

    def _unusable(self, why: str) -> RolloutError:
        return RolloutError(f"{self.path} {why}; move it away to go on without a rollout")


def _sync_folder(folder: Path) -> None:
    """So that the new name too survives a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
