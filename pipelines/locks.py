"""Locks of files that are made by one process at a time."""

from contextlib import suppress
from pathlib import Path

from filelock import FileLock


def lock_in_writable_folder(path: Path, timeout: float = -1) -> FileLock:
    """The lock on a file; acquired, it waits for another process, but not for a folder that cannot be written.

    Args:
        path: of the lock; it stays there.
        timeout: seconds to wait for another process; negative waits for as long as it takes.

    Raises:
        OSError: the folder cannot be written.
    """
    # Where no file can be made, some systems answer that there is none, and the lock would ask again for ever.
    with suppress(FileExistsError):
        path.touch(exist_ok=False)
    return FileLock(path, timeout=timeout)
