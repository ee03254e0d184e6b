"""Promoting the candidate through the registry's own gates, as a person would: `python -m registry promote`.

    promotion = Promotion("resunet")
    promotion.begin("8", "all stages are through")      # measures what is missing, asks the gates, promotes
    promotion.refusal()                                 # once: what the registry said, where it did not

The registry is asked in a process of its own: its gates measure for minutes, and what may be promoted is not for the
gateway to know. Whether it was is seen in the registry, not here.
"""

import logging
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Final

_ENDS_SECONDS: Final = 10.0
_MOST_WORDS: Final = 600
_BLOCKED: Final = 3
_log = logging.getLogger(__name__)


class Promotion:
    """One at a time.

    Args:
        name: of the registered model.
        commands: what is run, one after the other, with model, version and reason put in; each must end with 0, or
            say that a gate blocks, which the last one says in words.
    """

    def __init__(self, name: str, commands: Sequence[Sequence[str]] | None = None) -> None:
        self._name = name
        self._commands = _COMMANDS if commands is None else commands
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[str] | None = None
        self._refusal: str | None = None
        self._ending = False

    def begin(self, version: str, reason: str) -> None:
        """Start; while one is under way, nothing."""
        with self._lock:
            if self._ending or (self._thread is not None and self._thread.is_alive()):
                return
            self._refusal = None
            self._thread = threading.Thread(
                target=self._run, args=(version, reason), name="gateway-promotes", daemon=True
            )
            self._thread.start()

    def refusal(self) -> str | None:
        """Why the last one came to nothing, told once."""
        with self._lock:
            told, self._refusal = self._refusal, None
            return told

    def stop(self) -> None:
        """End what is under way; the registry keeps what is whole."""
        with self._lock:
            self._ending, process, thread = True, self._process, self._thread
        if process is not None:
            process.terminate()
        if thread is not None:
            thread.join(_ENDS_SECONDS)

    def _run(self, version: str, reason: str) -> None:
        words = {"name": self._name, "version": version, "reason": reason}
        for command in self._commands:
            code, said = self._output([word.format_map(words) for word in command])
            if code != 0 and (code != _BLOCKED or command is self._commands[-1]):
                _log.warning("version %s was not promoted: %s", version, said)
                with self._lock:
                    self._refusal = said
                return
        _log.info("version %s was promoted", version)

    def _output(self, command: list[str]) -> tuple[int, str]:
        with self._lock:
            if self._ending:
                return 1, "the gateway ends"
            self._process = process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        said, _ = process.communicate()
        with self._lock:
            self._process = None
        _, error, why = said.partition("error: ")
        words = " ".join((why if error else said).split())
        return process.returncode, words[:_MOST_WORDS] or f"exit code {process.returncode}"


_REGISTRY: Final = (sys.executable, "-m", "registry")
_COMMANDS: Final = (
    (*_REGISTRY, "check", "{name}", "{version}", "--stage", "Production"),
    (*_REGISTRY, "promote", "{name}", "{version}", "Production", "--reason", "{reason}"),
)
