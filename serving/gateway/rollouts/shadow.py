"""The owner's side of the process that answers for nobody; see `serving.gateway.rollouts.shadow_work`.

shadow = Shadow(serving, threads=1, json_log=True)
address = shadow.start(folder, assignment)      # where `Twins` send to
shadow.take(), shadow.trouble                   # evidence so far; why it answers nothing any more
shadow.stop()
"""

import multiprocessing
import tempfile
import threading
from contextlib import suppress
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

from serving.gateway.rollouts.shadow_work import be_shadow
from serving.rollout.assignment import Assignment
from serving.rollout.evidence import Evidence
from serving.settings import ServingSettings

_ENDS_SECONDS: Final = 10.0


class Shadow:
    """The owner's side: one process at a time."""

    def __init__(self, serving: ServingSettings, threads: int, json_log: bool) -> None:
        self._serving, self._threads, self._json_log = serving, threads, json_log
        self._running: _Running | None = None

    @property
    def trouble(self) -> str | None:
        """Why the process that was started answers nothing; None: it does, or will."""
        return self._running.trouble if self._running else None

    def start(self, folder: Path, assignment: Assignment) -> str:
        """Start a process with a version, in place of the one before.

        Returns:
            The Unix socket that twins are sent to; it is there once the version is loaded.
        """
        self.stop()
        self._running = _Running(folder, assignment, self._serving, self._threads, self._json_log)
        return self._running.address

    def take(self) -> list[Evidence]:
        """What was seen since it was last taken."""
        return self._running.take() if self._running else []

    def stop(self) -> None:
        """End it; what it has not told by now is lost."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()


class _Running:
    """One process, seen from the owner."""

    def __init__(
        self, folder: Path, assignment: Assignment, serving: ServingSettings, threads: int, json_log: bool
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="resunet-shadow-")  # of mode 0700: nobody else sends
        self.address = str(Path(self._folder.name) / "twins")
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, self.address, folder, assignment, serving, threads, json_log)
        self._process: SpawnProcess = context.Process(
            target=be_shadow, args=arguments, name="gateway-shadow", daemon=True
        )
        self._process.start()
        theirs.close()
        self._lock = threading.Lock()
        self._seen: list[Evidence] = []
        self._failure: str | None = None
        self._stopping = False
        threading.Thread(target=self._hear, name="gateway-hears-shadow", daemon=True).start()

    @property
    def trouble(self) -> str | None:
        if self._failure is None and not self._process.is_alive():
            return f"its process ended by itself (exit code {self._process.exitcode})"
        return self._failure

    def take(self) -> list[Evidence]:
        with self._lock:
            taken, self._seen = self._seen, []
            return taken

    def stop(self) -> None:
        self._stopping = True
        with suppress(OSError):
            self._pipe.send(None)
        self._process.join(_ENDS_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()
        self._folder.cleanup()

    def _hear(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                message: Evidence | str = self._pipe.recv()
                with self._lock:
                    if isinstance(message, str):
                        self._failure = message
                    else:
                        self._seen.append(message)
