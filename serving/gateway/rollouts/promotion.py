"""Promoting the candidate through the registry's own gates, as a person would: `python -m registry promote`.

    promotion = Promotion("resunet")
    promotion.begin("8", "all stages are through")      # measures what is missing, asks the gates, promotes
    promotion.refusal()                                 # once: what the registry said, where it did not
    promotion.cancel()                                  # nothing more is promoted, and nothing more is said

The registry is asked in a process of its own: its gates measure for minutes, and what may be promoted is not for the
gateway to know. Whether it was is seen in the registry, not here.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

_ENDS_SECONDS: Final = 10.0
_MEASURES_SECONDS: Final = 3600.0
_MOST_WORDS: Final = 600
_BLOCKED: Final = 3
_log = logging.getLogger(__name__)


class Promotion:
    """One at a time; safe between threads.

    Args:
        name: of the registered model.
        commands: what is run, one after the other, with model, version and reason put in; each must end with 0, or
            say that a gate blocks, which the last one says in words.
        seconds: longest time of a command.
    """

    def __init__(
        self, name: str, commands: Sequence[Sequence[str]] | None = None, seconds: float = _MEASURES_SECONDS
    ) -> None:
        self._name = name
        self._commands = _COMMANDS if commands is None else commands
        self._seconds = seconds
        self._lock = threading.Lock()
        self._current: _Attempt | None = None

    def begin(self, version: str, reason: str) -> None:
        """Start; while one is under way, nothing."""
        with self._lock:
            if self._current is not None and self._current.is_alive():
                return
            words = {"name": self._name, "version": version, "reason": reason}
            commands = [[word.format_map(words) for word in command] for command in self._commands]
            self._current = _Attempt(commands, self._seconds)
            self._current.start()

    def refusal(self) -> str | None:
        """Why the last one came to nothing, told once."""
        with self._lock:
            if self._current is None or self._current.is_alive() or self._current.refusal is None:
                return None
            told, self._current = self._current.refusal, None
            return told

    def cancel(self) -> None:
        """End what is under way, and forget it; the registry keeps what is whole."""
        with self._lock:
            attempt, self._current = self._current, None
        if attempt is not None:
            attempt.cancel()


class _Attempt(threading.Thread):
    """Runs the commands; `refusal` is there when it has ended, None where nobody refused."""

    def __init__(self, commands: Sequence[list[str]], seconds: float) -> None:
        super().__init__(name="gateway-promotes", daemon=True)
        self.refusal: str | None = None
        self._commands, self._seconds = commands, seconds
        self._starting = threading.Lock()
        self._cancelled = False
        self._process: subprocess.Popen[str] | None = None

    def run(self) -> None:
        """As of a thread."""
        try:
            for number, command in enumerate(self._commands, 1):
                code, said = self._run(command)
                if code != 0 and (code != _BLOCKED or number == len(self._commands)):
                    self.refusal = said
                    return
        except Exception as error:
            _log.exception("the registry could not be asked")
            self.refusal = f"it could not be asked ({type(error).__name__}); the gateway's log says more"

    def cancel(self) -> None:
        """End it, and wait for that, but not for ever."""
        with self._starting:
            self._cancelled, process = True, self._process
        if process is not None:
            _signal(process, signal.SIGTERM)
        self.join(_ENDS_SECONDS)
        if self.is_alive() and process is not None:
            _signal(process, signal.SIGKILL)

    def _run(self, command: list[str]) -> tuple[int, str]:
        with self._starting:
            if self._cancelled:
                return 1, ""
            # In a group of its own: it ends with what it has started, and not by what ends the gateway's.
            self._process = process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        try:
            said, _ = process.communicate(timeout=self._seconds)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.communicate()
            return 1, f"it had not decided after {self._seconds / 60:.0f} minutes"
        _, error, why = said.partition("error: ")
        words = " ".join((why if error else said).split())
        return process.returncode, words[:_MOST_WORDS] or f"exit code {process.returncode}"


def _signal(process: "subprocess.Popen[str]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


_REGISTRY: Final = (sys.executable, "-m", "registry")
_COMMANDS: Final = (
    (*_REGISTRY, "check", "{name}", "{version}", "--stage", "Production"),
    (*_REGISTRY, "promote", "{name}", "{version}", "Production", "--reason", "{reason}"),
)
