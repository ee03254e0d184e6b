"""Delete the oldest blobs of a kind until the others fit into so many bytes.

    trimmed = trim([stores.masks], most=500 * 2**20, before=now - timedelta(hours=1))
    trimmed.blobs, trimmed.size, trimmed.left

Oldest days go first; of the day in which the limit lies, the files that were written first. Several stores are trimmed
together: an image takes its true masks along. What was written after `before`, or is on its way to a day, stays: a row,
or a label, may be coming for it.
"""

import heapq
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final

from records.blobs import BlobStore

# A day may hold a million files: so many of them are sorted at a time.
_AT_A_TIME: Final = 20_000

# A store and its folder of a day.
_Part = tuple[BlobStore, Path]


@dataclass(frozen=True)
class Trimmed:
    """What went, and what stayed.

    Attributes:
        blobs: files that were deleted.
        size: bytes of them.
        left: bytes that stayed; more than the limit where the rest is too young, or cannot be deleted.
    """

    blobs: int = 0
    size: int = 0
    left: int = 0


@dataclass(frozen=True, order=True)
class _File:
    """A file of a day."""

    written: float
    name: str
    size: int


def trim(stores: Sequence[BlobStore], most: int, before: datetime) -> Trimmed:
    """Delete the oldest blobs of some stores.

    Args:
        most: bytes that they may take together.
        before: aware; what was written later stays.
    """
    days: dict[date, list[_Part]] = {}
    for store in stores:
        for day, path in store.days():
            days.setdefault(day, []).append((store, path))
    sizes = {day: sum(file.size for file in _files(parts)) for day, parts in days.items()}
    blobs, size, left = 0, 0, sum(sizes.values())
    for day in sorted(days):
        if left <= most:
            break
        gone = _Gone(days[day], before.timestamp())
        if sizes[day] <= left - most:
            for file in _files(days[day]):
                gone.delete(file)
        else:
            _delete_oldest(gone, left - most)
        gone.clear()
        blobs, size, left = blobs + gone.blobs, size + gone.size, left - gone.size
    return Trimmed(blobs, size, left)


class _Gone:
    """What is deleted of a day."""

    def __init__(self, parts: Sequence[_Part], before: float) -> None:
        self.parts = parts
        self.before = before
        self.blobs = 0
        self.size = 0

    def delete(self, file: _File) -> None:
        """Delete a file, and those of the same answer in the other stores, if they are old enough."""
        if file.written >= self.before:
            return
        for store, day in self.parts:
            path = store.path(day, file.name)
            with suppress(OSError):
                found = path.stat()
                if found.st_mtime < self.before:
                    path.unlink()
                    self.blobs, self.size = self.blobs + 1, self.size + found.st_size

    def clear(self) -> None:
        """Remove the folders that are empty by now."""
        for _, day in self.parts:
            for folder in (*day.glob("??"), day):
                with suppress(OSError):
                    folder.rmdir()


def _delete_oldest(gone: _Gone, excess: int) -> None:
    while gone.size < excess:
        before = gone.size
        old = (file for file in _files(gone.parts) if file.written < gone.before)
        for file in heapq.nsmallest(_AT_A_TIME, old):
            if gone.size >= excess:
                break
            gone.delete(file)
        if gone.size == before:
            return  # nothing is old enough, or nothing can be deleted


def _files(parts: Sequence[_Part]) -> Iterator[_File]:
    """The files of a day; of those that go meanwhile some may be missing."""
    for store, day in parts:
        for folder in day.glob("??"):
            with suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.endswith(store.suffix):
                        with suppress(OSError):
                            found = entry.stat(follow_symlinks=False)
                            yield _File(found.st_mtime, entry.name.removesuffix(store.suffix), found.st_size)
