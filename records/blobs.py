"""Predicted masks, kept outside the database for a while: a label that comes weeks later can be scored.

    store = MaskStore(home / "masks")
    store.put(answer_id, mask_rle, when)
    store.get(answer_id)

A mask is one gzipped file below a folder of its UTC day: a day too old is deleted as a whole.
"""

import gzip
import os
import re
import shutil
import uuid
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

from resunet.errors import RecordsError

_TRIES = 5


class MaskStore:
    """Masks as RLE JSON in files below `root/YYYY-MM-DD/`; the folders are made when first needed.

    A mask is named as its row in `predictions`, by the `answer_id`. Any number of processes may use one root.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, answer_id: str, mask_rle: str, when: datetime) -> Path:
        """Keep a mask; a second one under the same name and day replaces the first.

        Args:
            mask_rle: JSON text as `resunet.masks` writes it.
            when: aware time of the prediction; its UTC day decides how long the mask is kept.

        Raises:
            RecordsError: the file cannot be written, or the name is no answer's.
        """
        name = _file_name(answer_id)
        path = self._day(when) / name[:2] / name
        content = gzip.compress(mask_rle.encode(), compresslevel=1, mtime=0)
        for left in reversed(range(_TRIES)):
            try:
                _write(path, content)
                break
            except OSError as error:
                # Another process may be deleting this very day: it is made again.
                if isinstance(error, FileNotFoundError) and left:
                    continue
                raise RecordsError(
                    f"a mask cannot be written below {self.root}: {error.strerror}. Free disk space or mend its rights"
                ) from error
        return path

    def get(self, answer_id: str, when: datetime | None = None) -> str | None:
        """Return a mask's RLE JSON, or None when it was never kept or is already deleted.

        Args:
            when: time of the prediction; without it every day is searched, the latest first.

        Raises:
            RecordsError: the file is there but cannot be read, or the name is no answer's.
        """
        name = _file_name(answer_id)
        days = [self._day(when)] if when is not None else [path for _, path in sorted(self._days(), reverse=True)]
        for day in days:
            try:
                return gzip.decompress((day / name[:2] / name).read_bytes()).decode()
            except FileNotFoundError:
                continue
            except (OSError, EOFError, ValueError) as error:
                raise RecordsError(f"a mask below {day} is damaged: delete it or restore it") from error
        return None

    def purge(self, before: datetime) -> int:
        """Delete the days that ended before the UTC day of `before`, and return how many masks went."""
        limit = _utc_day(before)
        removed = 0
        for day, path in self._days():
            if day < limit:
                removed += sum(1 for _ in path.glob("??/*.gz"))
                shutil.rmtree(path, ignore_errors=True)
        return removed

    def _day(self, when: datetime) -> Path:
        return self.root / _utc_day(when).isoformat()

    def _days(self) -> list[tuple[date, Path]]:
        found = []
        for path in self.root.glob("????-??-??"):
            try:
                found.append((date.fromisoformat(path.name), path))
            except ValueError:
                continue  # not ours: leave it alone
        return found


def _write(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all; its folder is made when missing."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def _utc_day(when: datetime) -> date:
    if when.tzinfo is None:
        raise RecordsError("a mask needs an aware time: pass datetime.now(UTC)")
    return when.astimezone(UTC).date()


def _file_name(answer_id: str) -> str:
    # A name that a client chose could leave the root, or clash on a file system that ignores case.
    if not re.fullmatch("[0-9a-f]{64}", answer_id):
        raise RecordsError("a mask is named by its row's answer_id, 64 hexadecimal digits: read it from `predictions`")
    return f"{answer_id}.json.gz"
