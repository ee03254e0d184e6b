"""Handing a verified copy to `mlflow models serve`: a process group of its own that ends with this process.

    code = serve(root, ["--port", "5000"])      # the exit code, once the server has ended

The copy has to outlive the server, so this process stays, passes signals on, and waits until all of the group is gone.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

STOP_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.05
_PASSED_ON: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


@contextmanager
def ended_cleanly() -> Iterator[None]:
    """Let a signal end the block as an exception, so that what it holds is cleared away."""
    before = {number: signal.signal(number, _leave) for number in _PASSED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def serve(root: Path, options: Sequence[str]) -> int:
    """Run `mlflow models serve` on a folder until it ends.

    Args:
        root: the model's folder.
        options: of `mlflow models serve`, but for the model.

    Returns:
        its exit code; 128 + n where signal n ended it.
    """
    # `models serve` starts uvicorn by name: it must be this environment's.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(root), *options]
    passing = _Passing()
    with passing.installed():
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        process = subprocess.Popen(
            command,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
        passing.to(process.pid)
        code = process.wait()
        _wait_for_group(process.pid)
    ended_by = passing.received or (-code if code < 0 else 0)
    return 128 + ended_by if ended_by else code


class _Passing:
    """Passes signals on to a process group, also those that came before it was there."""

    def __init__(self) -> None:
        self.received = 0
        self._group = 0

    @contextmanager
    def installed(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._pass) for number in _PASSED_ON}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def to(self, group: int) -> None:
        self._group = group
        if self.received:
            self._pass(self.received, None)

    def _pass(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        if self._group:
            with suppress(ProcessLookupError):
                os.killpg(self._group, number)


def _wait_for_group(group: int) -> None:
    """Wait for the workers that outlive MLflow's own process while they answer what is under way."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
    ends = time.monotonic() + STOP_SECONDS
    while _is_alive(group):
        if time.monotonic() > ends:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def _is_alive(group: int) -> bool:
    # Orphans of the group are this process's to bury: else they would count as alive for ever.
    with suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
