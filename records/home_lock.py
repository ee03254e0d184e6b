"""A lock file of a home, for what one process at a time may do there.

with alone(home / "retrain.lock", "another retraining is under way in this RESUNET_HOME: wait until it has ended"):
    …
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from resunet.errors import BusyError, SettingsError

# What a command exits with whose caller has to know it.
BUSY_EXIT: Final = 4


@contextmanager
def alone(path: Path, busy: str) -> Iterator[int]:
    """Hold a lock as long as the block lasts; the system frees it when the last process that holds it is gone.

    Args:
        busy: what is said where somebody holds it.

    Yields:
        its file descriptor: a process that inherits it holds the lock too.

    Raises:
        BusyError: somebody holds it.
        SettingsError: the home cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"RESUNET_HOME {path.parent} cannot be written: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(busy) from None
        yield lock
    finally:
        os.close(lock)
