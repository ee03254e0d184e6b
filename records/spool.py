"""The local spool: predictions are written here before their answer leaves, and drained later.

A process appends to a segment of its own, `<owner>-<number>.jsonl`, and holds the lock `<owner>.lock` while
it lives, so that others know which segments are abandoned. A line is `<crc32> <json>`. A segment is read only
after it was sealed, and deleted when drained. A crash may leave one torn line at most, which nobody was told
had been written.

A full disk, or a spool above its stated size, makes `append` raise `RecordsError`: the caller must not answer
as if the prediction had been logged. What no database takes is set aside in `rejected/`, and counts too.
"""

import os
import threading
import uuid
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from resunet.errors import RecordsError

DEFAULT_SEGMENT_BYTES = 16 * 2**20
DEFAULT_MAX_BYTES = 4096 * 2**20
_REJECTED_LOCK_S = 10.0


class Spool:
    """The spool folder, and this process's place in it. Thread-safe.

    Args:
        folder: shared by the processes of one machine; made if missing.
        segment_bytes: a longer segment is sealed.
        max_bytes: of all segments and rejected records in the folder together; above it `append` refuses.

    Raises:
        RecordsError: the folder cannot be written or locked.
    """

    def __init__(
        self, folder: Path, segment_bytes: int = DEFAULT_SEGMENT_BYTES, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> None:
        self.folder = folder
        self.rejected = folder / "rejected"
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._owner = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._number = 0
        self._fd: int | None = None
        self._size = 0
        self._total = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._alive = self._owner_lock(self._owner)
            self._alive.acquire(timeout=0)
            self._open_segment()
            self.pending_bytes()
        except (OSError, Timeout) as error:
            raise RecordsError(
                f"the spool folder {folder} cannot be used: {_reason(error)}. "
                "Set RESUNET_HOME to a folder on a local disk that this process may write"
            ) from error

    def append(self, lines: Iterable[bytes]) -> None:
        """Write records, all or none; on return the system has them (they survive a killed process).

        Raises:
            RecordsError: the disk or the spool is full, or the spool is closed.
        """
        data = b"".join(b"%08x %s\n" % (zlib.crc32(line), line) for line in lines)
        with self._lock:
            if self._fd is None:
                raise RecordsError("the inference log is closed: nothing more can be logged")
            if self._total + len(data) > self._max_bytes:
                raise RecordsError(
                    f"the spool {self.folder} is full ({self._total} bytes wait for the database or are in "
                    "rejected/): bring the database back, run `python -m records redrain`, or raise "
                    "RESUNET_SPOOL_MAX_MB"
                )
            if self._size >= self._segment_bytes:
                self._seal()
            self._write(data)
            self._size += len(data)
            self._total += len(data)

    def sync(self) -> None:
        """Bring everything appended so far to the disk.

        Raises:
            OSError: the disk refuses.
        """
        with self._lock:
            if self._fd is None:
                return
            # Sync a duplicate, outside the lock: appends go on, and a seal may close the original meanwhile.
            fd = os.dup(self._fd)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def seal(self) -> None:
        """Close the segment being written, if it holds anything, so that it can be drained."""
        with self._lock:
            if self._fd is not None and self._size:
                self._seal()

    def sealed(self) -> list[Path]:
        """This process's segments that can be drained, oldest first."""
        with self._lock:
            current = self._segment(self._number) if self._fd is not None else None
            return [path for path in self._segments_of(self._owner) if path != current]

    @contextmanager
    def adopted(self) -> Iterator[list[Path]]:
        """The segments of processes that are no more, locked against other adopters."""
        locks: list[FileLock] = []
        segments: list[Path] = []
        try:
            for owner in sorted({_owner_of(path) for path in self.folder.glob("*.jsonl")} - {self._owner}):
                lock = self._owner_lock(owner)
                with suppress(Timeout, OSError):
                    lock.acquire(timeout=0)
                    locks.append(lock)
                    segments += self._segments_of(owner)
            yield segments
        finally:
            for lock in locks:
                owner = Path(lock.lock_file).stem
                if not self._segments_of(owner):
                    Path(lock.lock_file).unlink(missing_ok=True)
                lock.release()

    def remove(self, segment: Path) -> None:
        """Delete a drained segment."""
        segment.unlink(missing_ok=True)
        self.pending_bytes()

    def reject(self, lines: Iterable[bytes]) -> None:
        """Set records aside that no database will take, in `rejected/`, for a person to look at."""
        self.rejected.mkdir(exist_ok=True)
        path, flags = self.rejected / f"{self._owner}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with rejected_lock(self.rejected), os.fdopen(os.open(path, flags, 0o600), "ab") as file:
            file.writelines(line + b"\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())

    def pending_bytes(self) -> int:
        """Measure the folder's segments: what is not yet in the database, of every process."""
        pending, rejected = bytes_in(self.folder), bytes_in(self.rejected)
        with self._lock:
            self._total = pending + rejected
        return pending

    def close(self) -> None:
        """Stop writing and give up the lock; what was not drained is left to whoever opens the spool next."""
        with self._lock:
            if self._fd is None:
                return
            with suppress(OSError):
                os.fsync(self._fd)
            os.close(self._fd)
            self._fd = None
            if not self._size:
                self._segment(self._number).unlink(missing_ok=True)
            if not self._segments_of(self._owner):
                Path(self._alive.lock_file).unlink(missing_ok=True)
            self._alive.release()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's segment without touching it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _owner_lock(self, owner: str) -> FileLock:
        # A lock file whose mere presence is the lock would outlive a killed process: refuse that fallback.
        return FileLock(self.folder / f"{owner}.lock", thread_local=False, fallback_to_soft=False)

    def _segment(self, number: int) -> Path:
        return self.folder / f"{self._owner}-{number:08d}.jsonl"

    def _segments_of(self, owner: str) -> list[Path]:
        return sorted(self.folder.glob(f"{owner}-*.jsonl"))

    def _open_segment(self) -> None:
        path = self._segment(self._number + 1)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            # The new name must survive a power loss as well as its content.
            directory = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        self._fd, self._number, self._size = fd, self._number + 1, 0

    def _seal(self) -> None:
        full = self._fd
        try:
            self._open_segment()
            if full is not None:
                os.fsync(full)
        except OSError as error:
            raise RecordsError(f"the spool {self.folder} takes no new segment: {_reason(error)}") from error
        finally:
            if full is not None and full != self._fd:
                os.close(full)

    def _write(self, data: bytes) -> None:
        assert self._fd is not None
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            try:
                # Take the torn part back: the next record must begin on a line of its own.
                os.ftruncate(self._fd, self._size)
            except OSError:
                # Then it must begin in a segment of its own.
                self._size = max(self._size, self._segment_bytes)
            raise RecordsError(
                f"the spool {self.folder} cannot be written: {_reason(error)}. "
                "Free disk space; until then no prediction can be answered as logged"
            ) from error


def read_segment(path: Path) -> Iterator[tuple[bytes, bool]]:
    """Yield each line's record and whether its checksum holds; a torn last line is passed over."""
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            checksum, _, record = line[:-1].partition(b" ")
            intact = checksum == b"%08x" % zlib.crc32(record)
            yield (record if intact else line[:-1]), intact


@contextmanager
def rejected_lock(folder: Path) -> Iterator[None]:
    """Held by whoever adds to a `rejected/` or takes from it: neither may miss what the other does.

    Raises:
        RecordsError: somebody else holds it for long.
    """
    try:
        with FileLock(folder / ".lock", timeout=_REJECTED_LOCK_S, fallback_to_soft=False):
            yield
    except Timeout:
        raise RecordsError(f"{folder} is in use by `python -m records redrain`: wait for its end") from None


def bytes_in(folder: Path) -> int:
    """Of the segments in a folder, which need not be there."""
    total = 0
    for path in folder.glob("*.jsonl"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _owner_of(segment: Path) -> str:
    return segment.stem.rpartition("-")[0]


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
