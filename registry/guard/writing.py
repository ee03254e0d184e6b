"""Files of a place are written, or a version of it is registered: never one while the other has not ended.

    with writing(home):          # from the last look at whether it is registered until the write has ended
        ...
    with registering(home):      # from the look at what is registered until it stands in the registry
        ...

Any number write at once. All workers of a server share the locks, and all servers with one RESUNET_HOME.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from resunet.errors import SettingsError, StoreError

# Whoever registers holds the turnstile while it waits: uploads that come later let it go first.
TURNSTILE: Final = "writing.turn"
LOCK: Final = "writing.lock"
# The longest that uploads whose last byte has come may take to reach the store. MLflow's clients ask again after a 503.
WAIT_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.01


@contextmanager
def writing(home: Path) -> Iterator[None]:
    """Nothing is registered until the block ends; waits for a registration that is under way.

    Raises:
        SettingsError: RESUNET_HOME cannot be written.
    """
    with _opened(home, TURNSTILE) as turnstile, _opened(home, LOCK) as lock:
        fcntl.flock(turnstile, fcntl.LOCK_SH)
        fcntl.flock(lock, fcntl.LOCK_SH)
        fcntl.flock(turnstile, fcntl.LOCK_UN)
        yield


@contextmanager
def registering(home: Path, seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """No file is written or deleted until the block ends.

    Raises:
        SettingsError: RESUNET_HOME cannot be written.
        StoreError: what was being written did not end in time.
    """
    ends = time.monotonic() + seconds
    with _opened(home, TURNSTILE) as turnstile, _opened(home, LOCK) as lock:
        for number in (turnstile, lock):
            _taken(number, ends)
        yield


def _taken(number: int, ends: float) -> None:
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= ends:
                raise StoreError("uploads are under way and nothing was registered: try again when they end") from None
        time.sleep(_POLL_SECONDS)


@contextmanager
def _opened(home: Path, name: str) -> Iterator[int]:
    """The number of a lock's file; closing it gives the lock back."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        number = os.open(home / name, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"{home / name} cannot be locked: {error.strerror}; set RESUNET_HOME") from error
    try:
        yield number
    finally:
        os.close(number)
