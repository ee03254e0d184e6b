"""What a store of blobs does with a single file."""

import os
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

from resunet.errors import RecordsError


def write_new(path: Path, content: bytes) -> None:
    """Write a new file, for its owner alone, and bring it to the disk; its folder is made when missing.

    Raises:
        OSError: the disk refuses; then there is no file.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        fd = os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, flags, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise


def is_older(path: Path, before: datetime) -> bool:
    """Whether a file was written before a moment; one that is gone was not."""
    try:
        return path.stat().st_mtime < before.timestamp()
    except OSError:
        return False


def utc_day(when: datetime) -> date:
    """The day that a blob is kept under.

    Raises:
        RecordsError: the time has no zone.
    """
    if when.tzinfo is None:
        raise RecordsError("a blob needs an aware time: pass datetime.now(UTC)")
    return when.astimezone(UTC).date()
