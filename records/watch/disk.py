"""What a home holds, and what is left of its disk: on the machine that looks, without reading the files.

found = read_disk(home)
found.free_share, found.waiting_bytes, found.masks.days
"""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from records.spool import bytes_in
from resunet.errors import RecordsError


@dataclass(frozen=True)
class Kept:
    """What a store holds: one folder a UTC day, which goes as a whole.

    Attributes:
        days: how many.
        oldest: of them; None where there is none.
    """

    days: int
    oldest: date | None


@dataclass(frozen=True)
class Disk:
    """Of a home.

    Attributes:
        free_share: of the disk, 0 to 1.
        waiting_bytes: of predictions that the database does not have yet.
        rejected_bytes: of those that it refused.
    """

    free_share: float
    free_bytes: int
    waiting_bytes: int
    rejected_bytes: int
    masks: Kept
    images: Kept


def read_disk(home: Path) -> Disk:
    """Look at a home, which need not be there yet.

    Raises:
        RecordsError: its disk cannot be looked at.
    """
    try:
        usage = shutil.disk_usage(nearest(home))
        return Disk(
            free_share=usage.free / usage.total if usage.total else 0.0,
            free_bytes=usage.free,
            waiting_bytes=bytes_in(home / "spool"),
            rejected_bytes=bytes_in(home / "spool" / "rejected"),
            masks=_kept(home / "masks"),
            images=_kept(home / "images"),
        )
    except OSError as error:
        raise RecordsError(
            f"the disk of RESUNET_HOME cannot be looked at: {error.strerror}; see that this user may read it"
        ) from error


def nearest(folder: Path) -> Path:
    """The folder, or of those above it the lowest one that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _kept(root: Path) -> Kept:
    days: list[date] = []
    with suppress(FileNotFoundError), os.scandir(root) as found:
        for entry in found:
            with suppress(ValueError):
                days.append(date.fromisoformat(entry.name))
    return Kept(len(days), min(days, default=None))
