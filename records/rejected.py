"""Take lines out of `spool/rejected/`, beside whoever adds to it or drains it.

take_out(home / "spool" / "rejected", lambda line: b"lab-7" in line)
"""

import os
from collections.abc import Callable
from pathlib import Path

from records.spool import rejected_lock


def take_out(folder: Path, chosen: Callable[[bytes], bool]) -> None:
    """Rewrite the files without the lines that are chosen; nothing else is lost, whenever it is cut off.

    Args:
        chosen: called once with each line, without its end.

    Raises:
        RecordsError: somebody else has been working on the folder for long.
        OSError: a file cannot be read or written.
    """
    if not folder.is_dir():
        return
    with rejected_lock(folder):
        # What another one was writing when it died; its lines are all in the files still.
        for part in folder.glob("*.part"):
            part.unlink()
        for path in sorted(folder.glob("*.jsonl")):
            _rewrite(path, chosen)


def _rewrite(path: Path, chosen: Callable[[bytes], bool]) -> None:
    rest, found = path.with_suffix(".part"), False
    fd = os.open(rest, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as kept, path.open("rb") as file:
        for line in file:
            if chosen(line.removesuffix(b"\n")):
                found = True
            else:
                kept.write(line)
        kept.flush()
        os.fsync(kept.fileno())
    if not found:
        rest.unlink()
    elif rest.stat().st_size:
        rest.replace(path)
    else:
        path.unlink()
        rest.unlink()
