"""Predicted masks, kept outside the database for a while: a label that comes weeks later can be scored.

    store = MaskStore(home / "masks", keyring)
    store.put(answer_id, mask_rle, when)
    store.get(answer_id)

A blob is one file below a folder of its UTC day: a day too old is deleted as a whole. It is sealed where there is a key
(`records.sealing`); a mask is gzipped before.
"""

import gzip
import logging
import re
import shutil
import uuid
from collections.abc import Collection
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path

from records.blob_files import is_older, utc_day, write_new
from records.sealing import Keyring
from resunet.errors import RecordsError

_TRIES = 5
# Files on their way to a day: being written, or waiting for their row.
INCOMING = "incoming"
_INCOMING_NAME = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{32}")

_log = logging.getLogger(__name__)


class UndeletedError(RecordsError):
    """A blob that is there, has to go, and cannot be deleted."""


class BlobStore:
    """Blobs in files below `root/YYYY-MM-DD/`; the folders are made when first needed.

    A blob is named as its row in `predictions`, by the `answer_id`. Any number of processes may use one root.

    Args:
        kind: mask | image; a part of the name that a blob is sealed under.
        suffix: of the files.
        keyring: seals what is put and unseals what is read.
    """

    def __init__(self, root: Path, kind: str, suffix: str, keyring: Keyring | None = None) -> None:
        self.root = root
        self._kind = kind
        self.suffix = suffix
        self._keyring = keyring or Keyring()

    def write(self, answer_id: str, content: bytes, when: datetime, sealed: bool = False) -> Path:
        """Keep a blob; a second one under the same name and day replaces the first.

        Args:
            when: aware time of the prediction; its UTC day decides how long the blob is kept.
            sealed: whether it is already.

        Raises:
            RecordsError: the file cannot be written, or the name is no answer's.
        """
        day = self._day(when)
        return self._move(self.put_by(answer_id, content, sealed), answer_id, day)

    def read(self, answer_id: str, when: datetime | None = None) -> bytes | None:
        """Return a blob, or None when it was never kept or is already deleted.

        Args:
            when: time of the prediction; without it every day is searched, the latest first.

        Raises:
            SealError: it cannot be unsealed.
            RecordsError: the file is there but cannot be read, or the name is no answer's.
        """
        name = checked_name(answer_id)
        for day in [self._day(when)] if when is not None else [path for _, path in sorted(self.days(), reverse=True)]:
            try:
                blob = self.path(day, name).read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._damaged(day) from error
            return self._keyring.unseal(self._sealed_name(name), blob)
        return None

    def holds(self, answer_id: str, when: datetime) -> bool:
        """Whether there is a file of a blob; see `read`."""
        return self.path(self._day(when), checked_name(answer_id)).is_file()

    def delete(self, answer_ids: Collection[str]) -> int:
        """Delete answers' blobs of every day, also those that are on their way, and return how many went.

        Raises:
            UndeletedError: one is there and cannot be deleted.
        """
        names = {checked_name(answer_id) for answer_id in answer_ids}
        days = [path for _, path in self.days()]
        paths = [self.path(day, name) for name in names for day in days]
        paths += [path for path in self.incoming() if path.name.partition(".")[0] in names]
        return sum(self._removed(path) for path in paths)

    def incoming(self) -> list[Path]:
        """Files that are on their way to a day, or were when their process died."""
        return list((self.root / INCOMING).glob("*"))

    def bring(self, path: Path, answer_id: str, when: datetime) -> bool:
        """Bring a blob that was put by to its day; False where it is gone.

        Raises:
            RecordsError: the file cannot be moved, or the name is no answer's.
        """
        day = self._day(when)
        if not path.exists():
            return False
        self._move(path, answer_id, day)
        return True

    def drop(self, path: Path) -> None:
        """Delete a blob that was put by, if it is still there.

        Raises:
            UndeletedError: it cannot be deleted.
        """
        self._removed(path)

    def delete_lost(self, wanted: Collection[str], before: datetime) -> int:
        """Delete files that have been on their way for long and that no row will come for; return how many went.

        Args:
            wanted: names that rows in the spool refer to.
            before: aware; younger files may have a row that is just being appended.

        Raises:
            UndeletedError: one cannot be deleted.
        """
        return sum(
            self._removed(path) for path in self.incoming() if path.name not in wanted and is_older(path, before)
        )

    def purge(self, before: datetime) -> int:
        """Delete the days that ended before the UTC day of `before`, and return how many blobs went."""
        limit = utc_day(before)
        removed = 0
        for day, path in self.days():
            if day < limit:
                removed += sum(1 for _ in path.glob(f"??/*{self.suffix}"))
                shutil.rmtree(path, ignore_errors=True)
                if path.exists():
                    _log.warning("%s, which is too old, cannot be deleted: mend its rights", path)
        for path in self.incoming():
            with suppress(RecordsError):
                removed += is_older(path, before) and self._removed(path)
        return removed

    def put_by(self, answer_id: str, content: bytes, sealed: bool = False) -> Path:
        """Write a blob among those on their way, under a name of its own; safe from several threads at once.

        Raises:
            RecordsError: the file cannot be written, or the name is no answer's.
        """
        name = checked_name(answer_id)
        path = self.root / INCOMING / f"{name}.{uuid.uuid4().hex}"
        if self._keyring.seals and not sealed:
            content = self._keyring.seal(self._sealed_name(name), content)
        try:
            write_new(path, content)
        except OSError as error:
            raise self._unwritable(error) from error
        return path

    def _move(self, path: Path, answer_id: str, day: Path) -> Path:
        """Bring a blob to its day, where it is there as a whole or not at all."""
        target = self.path(day, checked_name(answer_id))
        for left in reversed(range(_TRIES)):
            try:
                if left < _TRIES - 1:
                    target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
                break
            except OSError as error:
                # The first of its day; or another process is deleting this very day: it is made again.
                if isinstance(error, FileNotFoundError) and left and path.exists():
                    continue
                with suppress(OSError):
                    path.unlink()
                raise self._unwritable(error) from error
        return target

    def _removed(self, path: Path) -> bool:
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise UndeletedError(
                f"{self._a_kind()} below {self.root} cannot be deleted: {error.strerror}. Mend its rights and try again"
            ) from error
        return True

    def path(self, day: Path, name: str) -> Path:
        """Where a blob of a day is."""
        return day / name[:2] / f"{name}{self.suffix}"

    def _sealed_name(self, name: str) -> str:
        return sealed_name(self._kind, name)

    def _day(self, when: datetime) -> Path:
        return self.root / utc_day(when).isoformat()

    def days(self) -> list[tuple[date, Path]]:
        """The folders of the days that there are."""
        found = []
        for path in self.root.glob("????-??-??"):
            try:
                found.append((date.fromisoformat(path.name), path))
            except ValueError:
                continue  # not ours: leave it alone
        return found

    def _a_kind(self) -> str:
        return f"a{'n' if self._kind[0] in 'aeiou' else ''} {self._kind}"

    def _damaged(self, day: Path) -> RecordsError:
        return RecordsError(f"{self._a_kind()} below {day} is damaged: delete it or restore it")

    def _unwritable(self, error: OSError) -> RecordsError:
        return RecordsError(
            f"{self._a_kind()} cannot be written below {self.root}: {error.strerror}. "
            "Free disk space or mend its rights"
        )


class MaskStore(BlobStore):
    """Masks as RLE JSON, gzipped."""

    def __init__(self, root: Path, keyring: Keyring | None = None) -> None:
        super().__init__(root, "mask", ".json.gz", keyring)

    def put(self, answer_id: str, mask_rle: str, when: datetime) -> Path:
        """Keep a mask; see `write`.

        Args:
            mask_rle: JSON text as `resunet.masks` writes it.

        Raises:
            RecordsError: the file cannot be written, or the name is no answer's.
        """
        return self.write(answer_id, packed(mask_rle), when)

    def get(self, answer_id: str, when: datetime | None = None) -> str | None:
        """Return a mask's RLE JSON, or None when it was never kept or is already deleted; see `read`.

        Raises:
            SealError: it cannot be unsealed.
            RecordsError: it is there but cannot be read, or the name is no answer's.
        """
        content = self.read(answer_id, when)
        try:
            return None if content is None else gzip.decompress(content).decode()
        except (OSError, EOFError, ValueError) as error:
            raise self._damaged(self.root) from error


def packed(mask_rle: str) -> bytes:
    """A mask as it is kept, but for sealing."""
    return gzip.compress(mask_rle.encode(), compresslevel=1, mtime=0)


def sealed_name(kind: str, answer_id: str) -> str:
    """The name that a blob is sealed under: the same wherever it lies."""
    return f"{kind}/{answer_id}"


def checked_file(name: str) -> str:
    """The same, if it is the name of a file that is on its way: one from a line of the spool must not lead elsewhere.

    Raises:
        RecordsError: it is not.
    """
    if not _INCOMING_NAME.fullmatch(name):
        raise RecordsError("a spooled record names a file that is no image's")
    return name


def checked_name(answer_id: str) -> str:
    """The same, if it is an answer's.

    Raises:
        RecordsError: it is not.
    """
    # A name that a client chose could leave the root, or clash on a file system that ignores case.
    if not re.fullmatch("[0-9a-f]{64}", answer_id):
        raise RecordsError("a blob is named by its row's answer_id, 64 hexadecimal digits: read it from `predictions`")
    return answer_id
